#include "runtime/model/cpu_runner_weights.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "runtime/base/float16.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/packing.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;
using kernels::RoundUp;

constexpr int64_t kAlignment = 64;

int32_t Width(int64_t columns) {
  return static_cast<int32_t>(RoundUp(columns, kColumnBlock));
}

int64_t Stride(int32_t width) {
  return width % 1024 == 0 ? width + kColumnBlock : width;
}

// Rows [row, row + rows) of one tensor, and where they go.
struct Job {
  WeightKind kind;
  int32_t layer;
  int64_t row;
  int32_t rows;
  int64_t columns;
  bf16_t* packed;  // one block of 32 columns, or
  bf16_t* plain;   // [rows, columns] as they are
};

// Lays tensors out in the arena, twice: first to count, then to fill.
class Layout {
 public:
  explicit Layout(std::byte* base) : base_(base) {}

  uint64_t size() const { return size_; }
  std::vector<Job>& jobs() { return jobs_; }

  template <typename T>
  T* Take(int64_t elements) {
    T* at = reinterpret_cast<T*>(base_ + size_);
    size_ += RoundUp(elements * static_cast<int64_t>(sizeof(T)), kAlignment);
    return base_ == nullptr ? nullptr : at;
  }

  // Every `step`-th block of `target` gets 32 rows of the tensor.
  void Pack(WeightKind kind, int32_t layer, int64_t rows, int64_t columns,
            bf16_t* target, int32_t step = 1) {
    if (base_ == nullptr) return;
    const int64_t block = RoundUp(columns, 2) * kColumnBlock;
    for (int64_t row = 0; row < rows; row += kColumnBlock) {
      jobs_.push_back(
          {kind, layer, row,
           static_cast<int32_t>(std::min<int64_t>(kColumnBlock, rows - row)),
           columns, target + row / kColumnBlock * step * block, nullptr});
    }
  }

  void Copy(WeightKind kind, int64_t rows, int64_t columns, bf16_t* target) {
    if (base_ == nullptr) return;
    for (int64_t row = 0; row < rows; row += kColumnBlock) {
      jobs_.push_back(
          {kind, 0, row,
           static_cast<int32_t>(std::min<int64_t>(kColumnBlock, rows - row)),
           columns, nullptr, target + row * columns});
    }
  }

 private:
  std::byte* base_;
  uint64_t size_ = 0;
  std::vector<Job> jobs_;
};

struct Tensors {
  std::vector<CpuLayerWeights> layers;
  const float* final_norm;
  const bf16_t* head;
  const bf16_t* embedding;
};

CpuLayerWeights LayOutLayer(const ModelConfig& config, const CpuShape& shape,
                            int32_t layer, Layout* layout) {
  const int64_t hidden = config.hidden_size;
  const int64_t hidden_k = RoundUp(hidden, 2);
  const int64_t q = static_cast<int64_t>(config.num_heads) * config.head_dim;
  const int64_t kv =
      static_cast<int64_t>(config.num_kv_heads) * config.head_dim;
  const int64_t mlp = config.intermediate_size;
  CpuLayerWeights weights;
  weights.attention_norm = layout->Take<float>(shape.hidden_width);
  weights.mlp_norm = layout->Take<float>(shape.hidden_width);

  bf16_t* qkv = layout->Take<bf16_t>(shape.qkv_width * hidden_k);
  layout->Pack(WeightKind::kQuery, layer, q, hidden, qkv);
  qkv += shape.q_width * hidden_k;
  layout->Pack(WeightKind::kKey, layer, kv, hidden, qkv);
  qkv += shape.kv_width * hidden_k;
  layout->Pack(WeightKind::kValue, layer, kv, hidden, qkv);
  weights.qkv = qkv - (shape.q_width + shape.kv_width) * hidden_k;

  bf16_t* out = layout->Take<bf16_t>(shape.hidden_width * RoundUp(q, 2));
  layout->Pack(WeightKind::kAttentionOut, layer, hidden, q, out);
  weights.out = out;

  bf16_t* gate_up = layout->Take<bf16_t>(2 * shape.mlp_width * hidden_k);
  layout->Pack(WeightKind::kGate, layer, mlp, hidden, gate_up, 2);
  layout->Pack(WeightKind::kUp, layer, mlp, hidden,
               gate_up + kColumnBlock * hidden_k, 2);
  weights.gate_up = gate_up;

  bf16_t* down = layout->Take<bf16_t>(shape.hidden_width * RoundUp(mlp, 2));
  layout->Pack(WeightKind::kDown, layer, hidden, mlp, down);
  weights.down = down;
  return weights;
}

Tensors LayOut(const ModelConfig& config, const CpuShape& shape,
               Layout* layout) {
  const int64_t hidden = config.hidden_size;
  Tensors tensors;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    tensors.layers.push_back(LayOutLayer(config, shape, layer, layout));
  }
  tensors.final_norm = layout->Take<float>(shape.hidden_width);
  bf16_t* head = layout->Take<bf16_t>(static_cast<int64_t>(shape.vocab_width) *
                                      RoundUp(hidden, 2));
  layout->Pack(WeightKind::kHead, 0, config.vocab_size, hidden, head);
  tensors.head = head;
  tensors.embedding = nullptr;
  if (!config.tied_embeddings) {
    bf16_t* embedding = layout->Take<bf16_t>(config.vocab_size * hidden);
    layout->Copy(WeightKind::kEmbedding, config.vocab_size, hidden, embedding);
    tensors.embedding = embedding;
  }
  return tensors;
}

// What the workers share while they read.
struct LoadRegion {
  const WeightSource* source;
  const std::vector<Job>* jobs;
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  Mutex mutex;
  absl::Status status ABSL_GUARDED_BY(mutex);
};

absl::Status RunJob(const WeightSource& source, const Job& job,
                    std::vector<BFloat16>* rows) {
  rows->resize(job.rows * job.columns);
  DESCANT_RETURN_IF_ERROR(
      source.ReadBf16(job.kind, job.layer, job.row, absl::MakeSpan(*rows)));
  const bf16_t* bits = &rows->data()->bits;
  if (job.packed != nullptr) {
    kernels::PackBlock(bits, job.columns, job.rows, job.columns, kColumnBlock,
                       job.packed);
  } else {
    std::memcpy(job.plain, bits, rows->size() * sizeof(bf16_t));
  }
  return absl::OkStatus();
}

void LoadTask(void* context, int32_t worker) {
  LoadRegion& region = *static_cast<LoadRegion*>(context);
  std::vector<BFloat16> rows;
  while (!region.failed.load(std::memory_order_relaxed)) {
    const size_t index = region.next.fetch_add(1);
    if (index >= region.jobs->size()) return;
    const absl::Status status =
        RunJob(*region.source, (*region.jobs)[index], &rows);
    if (status.ok()) continue;
    region.failed.store(true);
    MutexLock lock(&region.mutex);
    region.status.Update(status);
  }
}

absl::Status ReadNorm(const WeightSource& source, WeightKind kind,
                      int32_t layer, int32_t size, const float* target) {
  return source.ReadFp32(kind, layer, 0,
                         absl::MakeSpan(const_cast<float*>(target), size));
}

}  // namespace

CpuShape::CpuShape(const ModelConfig& config)
    : hidden(config.hidden_size),
      hidden_width(Width(hidden)),
      q_width(Width(int64_t{config.num_heads} * config.head_dim)),
      kv_width(Width(int64_t{config.num_kv_heads} * config.head_dim)),
      qkv_width(q_width + 2 * kv_width),
      mlp_width(Width(config.intermediate_size)),
      vocab_width(Width(config.vocab_size)),
      hidden_pairs((hidden + 1) / 2),
      q_pairs((config.num_heads * config.head_dim + 1) / 2),
      mlp_pairs((config.intermediate_size + 1) / 2),
      hidden_stride(Stride(hidden_width)),
      q_stride(Stride(q_width)),
      mlp_stride(Stride(mlp_width)) {}

absl::StatusOr<std::unique_ptr<CpuWeights>> CpuWeights::Load(
    const ModelConfig& config, const WeightSource& source,
    kernels::WorkerPool* pool) {
  std::unique_ptr<CpuWeights> weights(new CpuWeights(config));
  Layout count(nullptr);
  LayOut(config, weights->shape_, &count);
  DESCANT_ASSIGN_OR_RETURN(weights->arena_,
                           kernels::Arena::Create(count.size()));
  Layout layout(weights->arena_.data());
  Tensors tensors = LayOut(config, weights->shape_, &layout);

  LoadRegion region;
  region.source = &source;
  region.jobs = &layout.jobs();
  pool->Run(&LoadTask, &region);
  {
    MutexLock lock(&region.mutex);
    DESCANT_RETURN_IF_ERROR(region.status);
  }
  const int32_t hidden = config.hidden_size;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    DESCANT_RETURN_IF_ERROR(ReadNorm(source, WeightKind::kAttentionNorm, layer,
                                     hidden,
                                     tensors.layers[layer].attention_norm));
    DESCANT_RETURN_IF_ERROR(ReadNorm(source, WeightKind::kMlpNorm, layer,
                                     hidden, tensors.layers[layer].mlp_norm));
  }
  DESCANT_RETURN_IF_ERROR(
      ReadNorm(source, WeightKind::kFinalNorm, 0, hidden, tensors.final_norm));
  weights->layers_ = std::move(tensors.layers);
  weights->final_norm_ = tensors.final_norm;
  weights->head_ = tensors.head;
  weights->embedding_ = tensors.embedding;
  return weights;
}

void CpuWeights::Embed(int32_t token, float* x) const {
  if (embedding_ != nullptr) {
    const bf16_t* row = embedding_ + int64_t{token} * shape_.hidden;
    for (int32_t i = 0; i < shape_.hidden; ++i)
      x[i] = ToFloat(BFloat16{row[i]});
    return;
  }
  const bf16_t* column =
      head_ + kernels::PackedIndex(token, 0, shape_.hidden, kColumnBlock);
  for (int32_t i = 0; i < shape_.hidden; ++i) {
    x[i] = ToFloat(BFloat16{column[i / 2 * 2 * kColumnBlock + i % 2]});
  }
}

}  // namespace descant
