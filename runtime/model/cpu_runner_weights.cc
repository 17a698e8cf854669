#include "runtime/model/cpu_runner_weights.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "runtime/base/float16.h"
#include "runtime/base/fs.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/numa.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/cpu_linear_parts.h"
#include "runtime/model/weights_cache.h"

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

int64_t StrideBytes(int32_t width) {
  const int64_t padded = RoundUp(width, kernels::kInt8Depth);
  return padded % 1024 == 0 ? padded + kernels::kInt8Depth : padded;
}

// Rows of one tensor, and where they go.
struct Job {
  WeightRows rows;
  std::byte* packed;          // one block of 32 columns, or
  bf16_t* plain;              // [rows, columns] as they are
  const BlockFormat* format;  // of `packed`
};

// A vector kept in fp32, cut into runs of 32 elements: every `step`-th run of
// `target` gets one.
struct VectorJob {
  WeightKind kind;
  int32_t layer;
  int64_t size;
  float* target;
  int32_t step;
};

// Lays tensors out in the arena, twice: first to count, then to fill.
class Layout {
 public:
  Layout(const ModelConfig& config, const WeightSource& source,
         const BlockFormat& format, std::byte* base)
      : config_(config), source_(source), format_(format), base_(base) {}

  uint64_t size() const { return size_; }
  const std::vector<Job>& jobs() const { return jobs_; }
  const std::vector<VectorJob>& vectors() const { return vectors_; }

  template <typename T>
  T* Take(int64_t elements) {
    T* at = reinterpret_cast<T*>(base_ + size_);
    size_ += RoundUp(elements * static_cast<int64_t>(sizeof(T)), kAlignment);
    return base_ == nullptr ? nullptr : at;
  }

  // Room for the blocks of `width` output channels of these tensors.
  CpuLinear Blocks(int64_t width, absl::Span<const WeightKind> kinds,
                   int32_t layer) {
    CpuLinear linear;
    linear.format = LinearFormat(format_, source_, kinds, layer);
    linear.type = linear.format->type;
    linear.block_bytes =
        linear.format->bytes(ShapeOf(config_, kinds.front()).columns);
    linear.blocks = Take<std::byte>(width / kColumnBlock * linear.block_bytes);
    return linear;
  }

  // Every `step`-th block of `target`, from block `first` on, gets 32 rows of
  // the tensor.
  void Pack(WeightKind kind, int32_t layer, const CpuLinear& target,
            int64_t first = 0, int32_t step = 1) {
    if (base_ == nullptr) return;
    const WeightShape size = ShapeOf(config_, kind);
    for (int64_t row = 0; row < size.rows; row += kColumnBlock) {
      const int64_t block = first + row / kColumnBlock * step;
      jobs_.push_back(
          {RowsOf(kind, layer, row),
           // Blocks are read-only for all others.
           const_cast<std::byte*>(target.blocks) + block * target.block_bytes,
           nullptr, target.format});
    }
  }

  // `target` is zero already.
  void Fill(WeightKind kind, int32_t layer, float* target, int32_t step = 1) {
    if (base_ == nullptr) return;
    vectors_.push_back(
        {kind, layer, ShapeOf(config_, kind).columns, target, step});
  }

  // A vector in `width` elements; null where the model has none.
  const float* Vector(WeightKind kind, int32_t layer, int64_t width) {
    if (!HasWeight(config_, kind)) return nullptr;
    float* target = Take<float>(width);
    Fill(kind, layer, target);
    return target;
  }

  void Copy(WeightKind kind, bf16_t* target) {
    if (base_ == nullptr) return;
    const WeightShape size = ShapeOf(config_, kind);
    for (int64_t row = 0; row < size.rows; row += kColumnBlock) {
      jobs_.push_back({RowsOf(kind, 0, row), nullptr,
                       target + row * size.columns, nullptr});
    }
  }

 private:
  // Up to 32 of them, from `row` on.
  WeightRows RowsOf(WeightKind kind, int32_t layer, int64_t row) const {
    const WeightShape size = ShapeOf(config_, kind);
    return {
        kind, layer, row,
        static_cast<int32_t>(std::min<int64_t>(kColumnBlock, size.rows - row)),
        size.columns};
  }

  const ModelConfig& config_;
  const WeightSource& source_;
  const BlockFormat& format_;
  std::byte* base_;
  uint64_t size_ = 0;
  std::vector<Job> jobs_;
  std::vector<VectorJob> vectors_;
};

struct Tensors {
  std::vector<CpuLayerWeights> layers;
  CpuNorm final_norm;
  CpuLinear head;
  const bf16_t* embedding = nullptr;
  float* positions = nullptr;
};

CpuNorm LayOutNorm(const CpuShape& shape, WeightKind weight, WeightKind bias,
                   int32_t layer, Layout* layout) {
  return {layout->Vector(weight, layer, shape.hidden_width),
          layout->Vector(bias, layer, shape.hidden_width)};
}

// `width` output channels, of these parts.
CpuLinear LayOutLinear(const ModelConfig& config, int64_t width,
                       const std::vector<LinearPart>& parts, int32_t layer,
                       Layout* layout) {
  std::vector<WeightKind> kinds;
  for (const LinearPart& part : parts) kinds.push_back(part.weight);
  CpuLinear linear = layout->Blocks(width, kinds, layer);
  float* bias = HasWeight(config, parts.front().bias)
                    ? layout->Take<float>(width)
                    : nullptr;
  for (const LinearPart& part : parts) {
    layout->Pack(part.weight, layer, linear, part.first, part.step);
    if (!HasWeight(config, part.bias)) continue;
    layout->Fill(part.bias, layer, bias + part.first * kColumnBlock, part.step);
  }
  linear.bias = bias;
  return linear;
}

CpuLayerWeights LayOutLayer(const ModelConfig& config, const CpuShape& shape,
                            int32_t layer, Layout* layout) {
  const int64_t head = RoundUp(config.head_dim, kernels::kRankBlock);
  CpuLayerWeights weights;
  weights.attention_norm =
      LayOutNorm(shape, WeightKind::kAttentionNorm,
                 WeightKind::kAttentionNormBias, layer, layout);
  weights.mlp_norm = LayOutNorm(shape, WeightKind::kMlpNorm,
                                WeightKind::kMlpNormBias, layer, layout);
  weights.attention_post_norm =
      layout->Vector(WeightKind::kAttentionPostNorm, layer, shape.hidden_width);
  weights.mlp_post_norm =
      layout->Vector(WeightKind::kMlpPostNorm, layer, shape.hidden_width);
  weights.query_norm = layout->Vector(WeightKind::kQueryNorm, layer, head);
  weights.key_norm = layout->Vector(WeightKind::kKeyNorm, layer, head);
  weights.qkv =
      LayOutLinear(config, shape.qkv_width, QkvParts(shape), layer, layout);
  weights.out =
      LayOutLinear(config, shape.hidden_width, OutParts(), layer, layout);
  weights.gate_up =
      LayOutLinear(config, int64_t{shape.mlp_slices} * shape.mlp_width,
                   GateUpParts(shape), layer, layout);
  weights.down =
      LayOutLinear(config, shape.hidden_width, DownParts(), layer, layout);
  return weights;
}

Tensors LayOut(const ModelConfig& config, const CpuShape& shape,
               Layout* layout) {
  const int64_t hidden = config.hidden_size;
  Tensors tensors;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    tensors.layers.push_back(LayOutLayer(config, shape, layer, layout));
  }
  tensors.final_norm = LayOutNorm(shape, WeightKind::kFinalNorm,
                                  WeightKind::kFinalNormBias, 0, layout);
  tensors.head = layout->Blocks(shape.vocab_width, {WeightKind::kHead}, 0);
  layout->Pack(WeightKind::kHead, 0, tensors.head);
  if (!config.tied_embeddings) {
    bf16_t* embedding = layout->Take<bf16_t>(config.vocab_size * hidden);
    layout->Copy(WeightKind::kEmbedding, embedding);
    tensors.embedding = embedding;
  }
  if (config.position == PositionKind::kLearned) {
    tensors.positions = layout->Take<float>(config.max_position * hidden);
  }
  return tensors;
}

// Blocks near the workers that multiply them: REQUIRES that nobody touched
// them.
void PlaceBlocks(const CpuShape& shape, const Tensors& tensors,
                 const kernels::WorkerPool& pool, const kernels::Arena& arena) {
  if (!kernels::NumaNodes::OfMachine().several()) return;
  std::vector<kernels::SharedItems> shares;
  for (const CpuLayerWeights& layer : tensors.layers) {
    const auto layer_shares = SharesOf(shape, layer);
    shares.insert(shares.end(), layer_shares.begin(), layer_shares.end());
  }
  shares.push_back({tensors.head.blocks, shape.vocab_width / kColumnBlock,
                    tensors.head.block_bytes});
  std::vector<int32_t> nodes;
  for (int32_t worker = 0; worker < pool.size(); ++worker) {
    nodes.push_back(pool.NodeOf(worker));
  }
  kernels::PlaceNearWorkers(shares, nodes, arena.data(), arena.size(),
                            kernels::Arena::kPageBytes);
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
                    PackScratch* scratch) {
  if (job.packed != nullptr) {
    return job.format->pack(source, job.rows, scratch, job.packed);
  }
  scratch->bf16.resize(job.rows.rows * job.rows.columns);
  DESCANT_RETURN_IF_ERROR(source.ReadBf16(job.rows.kind, job.rows.layer,
                                          job.rows.row,
                                          absl::MakeSpan(scratch->bf16)));
  std::memcpy(job.plain, &scratch->bf16.data()->bits,
              scratch->bf16.size() * sizeof(bf16_t));
  return absl::OkStatus();
}

void LoadTask(void* context, int32_t worker) {
  LoadRegion& region = *static_cast<LoadRegion*>(context);
  PackScratch scratch;
  while (!region.failed.load(std::memory_order_relaxed)) {
    const size_t index = region.next.fetch_add(1);
    if (index >= region.jobs->size()) return;
    const absl::Status status =
        RunJob(*region.source, (*region.jobs)[index], &scratch);
    if (status.ok()) continue;
    region.failed.store(true);
    MutexLock lock(&region.mutex);
    region.status.Update(status);
  }
}

// Packs all blocks.
absl::Status RunJobs(const WeightSource& source, const std::vector<Job>& jobs,
                     kernels::WorkerPool* pool) {
  LoadRegion region;
  region.source = &source;
  region.jobs = &jobs;
  pool->Run(&LoadTask, &region);
  MutexLock lock(&region.mutex);
  return region.status;
}

// Every so many blocks, one of the cached ones is packed anew: other software
// may have written them under the same key.
constexpr size_t kSampleStep = 97;

struct alignas(64) Line {
  std::byte bytes[64];
};

// FAILED_PRECONDITION: a block is not what it would be packed to.
absl::Status CheckSample(const WeightSource& source,
                         const std::vector<Job>& jobs) {
  PackScratch scratch;
  std::vector<Line> fresh;
  for (size_t i = 0; i < jobs.size(); i += kSampleStep) {
    Job job = jobs[i];
    if (job.packed == nullptr) continue;
    const std::byte* cached = job.packed;
    const int64_t bytes = job.format->bytes(job.rows.columns);
    fresh.assign(bytes / sizeof(Line), Line{});
    job.packed = fresh.data()->bytes;
    DESCANT_RETURN_IF_ERROR(RunJob(source, job, &scratch));
    if (std::memcmp(cached, job.packed, bytes) != 0) {
      return absl::FailedPreconditionError(
          "packed weights: their layout is not this version's");
    }
  }
  return absl::OkStatus();
}

// False: the weights must be packed; `arena` is zero then.
bool TakeFromCache(const PackedWeightsPlace& place, const WeightSource& source,
                   const std::vector<Job>& jobs, kernels::WorkerPool* pool,
                   absl::Span<std::byte> arena) {
  if (place.directory.empty()) return false;
  PosixFs fs;
  const WeightsCache cache(&fs, place.directory);
  absl::Status status = cache.Read(place.key, pool, arena);
  if (absl::IsNotFound(status)) return false;
  if (status.ok()) status = CheckSample(source, jobs);
  if (status.ok()) {
    LogInfo("packed weights from ", cache.PathOf(place.key));
    return true;
  }
  LogWarning(cache.PathOf(place.key), " is not used: ", status.ToString());
  std::memset(arena.data(), 0, arena.size());
  return false;
}

absl::Status ReadVectors(const WeightSource& source,
                         const std::vector<VectorJob>& jobs) {
  std::vector<float> values;
  for (const VectorJob& job : jobs) {
    values.resize(job.size);
    DESCANT_RETURN_IF_ERROR(
        source.ReadFp32(job.kind, job.layer, 0, absl::MakeSpan(values)));
    for (int64_t i = 0; i < job.size; ++i) {
      const int64_t run = i / kColumnBlock * job.step;
      job.target[run * kColumnBlock + i % kColumnBlock] = values[i];
    }
  }
  return absl::OkStatus();
}

}  // namespace

CpuShape::CpuShape(const ModelConfig& config)
    : hidden(config.hidden_size),
      hidden_width(Width(hidden)),
      q_width(Width(int64_t{config.num_heads} * config.head_dim)),
      kv_width(Width(int64_t{config.num_kv_heads} * config.head_dim)),
      qkv_width(q_width + 2 * kv_width),
      mlp_width(Width(config.intermediate_size)),
      mlp_slices(config.gated_mlp ? 2 : 1),
      vocab_width(Width(config.vocab_size)),
      hidden_pairs((hidden + 1) / 2),
      q_pairs((config.num_heads * config.head_dim + 1) / 2),
      mlp_pairs((config.intermediate_size + 1) / 2),
      hidden_stride(Stride(hidden_width)),
      q_stride(Stride(q_width)),
      mlp_stride(Stride(mlp_width)),
      hidden_bytes(StrideBytes(hidden_width)),
      q_bytes(StrideBytes(q_width)),
      mlp_bytes(StrideBytes(mlp_width)),
      logits_stride(Stride(vocab_width)) {}

absl::StatusOr<std::unique_ptr<CpuWeights>> CpuWeights::Load(
    const ModelConfig& config, const WeightSource& source,
    const BlockFormat& format, kernels::WorkerPool* pool,
    const PackedWeightsPlace& place) {
  std::unique_ptr<CpuWeights> weights(new CpuWeights(config));
  Layout count(config, source, format, nullptr);
  LayOut(config, weights->shape_, &count);
  DESCANT_ASSIGN_OR_RETURN(weights->arena_,
                           kernels::Arena::Create(count.size()));
  Layout layout(config, source, format, weights->arena_.data());
  Tensors tensors = LayOut(config, weights->shape_, &layout);
  PlaceBlocks(weights->shape_, tensors, *pool, weights->arena_);

  const bool cached = TakeFromCache(
      place, source, layout.jobs(), pool,
      absl::MakeSpan(weights->arena_.data(), weights->arena_.size()));
  if (!cached) {
    DESCANT_RETURN_IF_ERROR(RunJobs(source, layout.jobs(), pool));
  }
  DESCANT_RETURN_IF_ERROR(ReadVectors(source, layout.vectors()));
  if (tensors.positions != nullptr) {
    DESCANT_RETURN_IF_ERROR(source.ReadFp32(
        WeightKind::kPositionEmbedding, 0, 0,
        absl::MakeSpan(tensors.positions,
                       int64_t{config.max_position} * config.hidden_size)));
  }
  weights->layers_ = std::move(tensors.layers);
  weights->final_norm_ = tensors.final_norm;
  weights->head_ = tensors.head;
  weights->embedding_ = tensors.embedding;
  weights->positions_ = tensors.positions;
  if (!cached && !place.directory.empty()) weights->WriteTo(place);
  return weights;
}

CpuWeights::~CpuWeights() {
  stop_writing_ = true;
  if (writer_.joinable()) writer_.join();
}

void CpuWeights::WriteTo(const PackedWeightsPlace& place) {
  writer_ = std::thread([this, place] {
    PosixFs fs;
    const WeightsCache cache(&fs, place.directory);
    const absl::Status status = cache.Write(
        place.key, absl::MakeConstSpan(arena_.data(), arena_.size()),
        &stop_writing_);
    if (status.ok() || absl::IsCancelled(status)) return;
    LogWarning("the packed weights are not kept in ", place.directory, ": ",
               status.ToString());
  });
}

void CpuWeights::Embed(int32_t token, int32_t position, float* x) const {
  const int32_t hidden = shape_.hidden;
  if (embedding_ != nullptr) {
    const bf16_t* row = embedding_ + int64_t{token} * hidden;
    for (int32_t i = 0; i < hidden; ++i) {
      x[i] = ToFloat(BFloat16{row[i]}) * embedding_scale_;
    }
  } else {
    head_.format->unpack(
        head_.blocks + token / kColumnBlock * head_.block_bytes,
        token % kColumnBlock, hidden, x);
    for (int32_t i = 0; i < hidden; ++i) x[i] *= embedding_scale_;
  }
  if (positions_ == nullptr) return;
  const float* learned = positions_ + int64_t{position} * hidden;
  for (int32_t i = 0; i < hidden; ++i) x[i] += learned[i];
}

}  // namespace descant
