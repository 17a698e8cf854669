#include "runtime/model/cuda_weights.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "runtime/base/float16.h"
#include "runtime/base/pacing.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kHalfBytes = 2;
// Of a matrix, read and copied at once: in a load, and beside steps.
constexpr int64_t kPieceElements = int64_t{4} << 20;
constexpr int64_t kMergedPieceElements = int64_t{128} << 10;

// Matrices that read the same x, and their biases.
struct LinearGroup {
  CudaLinear CudaLayerWeights::*linear;
  absl::Span<const WeightKind> matrices;
  absl::Span<const WeightKind> biases;
};
constexpr WeightKind kQkv[] = {WeightKind::kQuery, WeightKind::kKey,
                               WeightKind::kValue};
constexpr WeightKind kQkvBiases[] = {
    WeightKind::kQueryBias, WeightKind::kKeyBias, WeightKind::kValueBias};
constexpr WeightKind kOut[] = {WeightKind::kAttentionOut};
constexpr WeightKind kOutBiases[] = {WeightKind::kAttentionOutBias};
constexpr WeightKind kGateUp[] = {WeightKind::kGate, WeightKind::kUp};
constexpr WeightKind kGateUpBiases[] = {WeightKind::kGateBias,
                                        WeightKind::kUpBias};
constexpr WeightKind kDown[] = {WeightKind::kDown};
constexpr WeightKind kDownBiases[] = {WeightKind::kDownBias};
constexpr WeightKind kHead[] = {WeightKind::kHead};
constexpr LinearGroup kLinearGroups[] = {
    {&CudaLayerWeights::qkv, kQkv, kQkvBiases},
    {&CudaLayerWeights::out, kOut, kOutBiases},
    {&CudaLayerWeights::gate_up, kGateUp, kGateUpBiases},
    {&CudaLayerWeights::down, kDown, kDownBiases}};

// One tensor, and where it goes.
struct Job {
  WeightKind kind;
  int32_t layer;
  bool fp32;
  uint64_t offset;
};

// Lays tensors out, twice: first to count, then with the device's address.
class Layout {
 public:
  Layout(const ModelConfig& config, std::byte* base)
      : config_(config), base_(base) {}

  uint64_t size() const { return size_; }
  const std::vector<Job>& jobs() const { return jobs_; }

  // Null where the model has none.
  const float* Vector(WeightKind kind, int32_t layer) {
    if (!HasWeight(config_, kind)) return nullptr;
    return static_cast<const float*>(Take(kind, layer, /*fp32=*/true));
  }
  const void* Matrix(WeightKind kind, int32_t layer) {
    return Take(kind, layer, /*fp32=*/false);
  }
  CudaLinear Linear(absl::Span<const WeightKind> matrices,
                    absl::Span<const WeightKind> biases, int32_t layer) {
    CudaLinear linear;
    linear.w = Stack(matrices, layer);
    linear.bias = Stack(biases, layer);
    for (const WeightKind kind : matrices) {
      if (!HasWeight(config_, kind)) continue;
      const WeightShape shape = ShapeOf(config_, kind);
      linear.columns += static_cast<int32_t>(shape.rows);
      linear.depth = static_cast<int32_t>(shape.columns);
    }
    return linear;
  }

  // One below the other, without padding between them; what the model has not
  // is left out. Null: nothing of it.
  const void* Stack(absl::Span<const WeightKind> kinds, int32_t layer) {
    const void* first = nullptr;
    bool any = false;
    for (const WeightKind kind : kinds) {
      if (!HasWeight(config_, kind)) continue;
      if (!any) Align();
      const void* at = Add(kind, layer, /*fp32=*/false);
      if (!any) first = at;
      any = true;
    }
    return first;
  }

 private:
  const void* Take(WeightKind kind, int32_t layer, bool fp32) {
    Align();
    return Add(kind, layer, fp32);
  }
  const void* Add(WeightKind kind, int32_t layer, bool fp32) {
    const WeightShape shape = ShapeOf(config_, kind);
    jobs_.push_back({kind, layer, fp32, size_});
    const std::byte* at = base_ == nullptr ? nullptr : base_ + size_;
    size_ += static_cast<uint64_t>(shape.rows * shape.columns) *
             (fp32 ? sizeof(float) : kHalfBytes);
    return at;
  }
  void Align() { size_ = (size_ + kAlignment - 1) / kAlignment * kAlignment; }

  const ModelConfig& config_;
  std::byte* base_;
  uint64_t size_ = 0;
  std::vector<Job> jobs_;
};

CudaLayerWeights LayOutLayer(int32_t layer, Layout* layout) {
  CudaLayerWeights weights;
  weights.attention_norm = {
      layout->Vector(WeightKind::kAttentionNorm, layer),
      layout->Vector(WeightKind::kAttentionNormBias, layer)};
  weights.mlp_norm = {layout->Vector(WeightKind::kMlpNorm, layer),
                      layout->Vector(WeightKind::kMlpNormBias, layer)};
  weights.attention_post_norm =
      layout->Vector(WeightKind::kAttentionPostNorm, layer);
  weights.mlp_post_norm = layout->Vector(WeightKind::kMlpPostNorm, layer);
  weights.query_norm = layout->Vector(WeightKind::kQueryNorm, layer);
  weights.key_norm = layout->Vector(WeightKind::kKeyNorm, layer);
  for (const LinearGroup& group : kLinearGroups) {
    weights.*group.linear = layout->Linear(group.matrices, group.biases, layer);
  }
  return weights;
}

// The base's, but for the matrices of groups that the adapter changes.
CudaLayerWeights LayOutMerged(const MergedWeightSource& source,
                              const CudaLayerWeights& base, int32_t layer,
                              Layout* layout) {
  CudaLayerWeights weights = base;
  for (const LinearGroup& group : kLinearGroups) {
    if (std::any_of(
            group.matrices.begin(), group.matrices.end(),
            [&](WeightKind kind) { return source.IsMerged(kind, layer); })) {
      (weights.*group.linear).w = layout->Stack(group.matrices, layer);
    }
  }
  return weights;
}

absl::Status CheckSizes(const ModelConfig& config) {
  const auto check = [](const char* what, int64_t size) {
    if (size % kCudaColumns == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("on a GPU, ", what, " has to be a multiple of ",
                     kCudaColumns, ", and is ", size));
  };
  DESCANT_RETURN_IF_ERROR(check("the hidden size", config.hidden_size));
  DESCANT_RETURN_IF_ERROR(
      check("the intermediate size", config.intermediate_size));
  DESCANT_RETURN_IF_ERROR(check("the size of a head", config.head_dim));
  if (config.head_dim > 256) {
    return absl::InvalidArgumentError(
        absl::StrCat("heads of ", config.head_dim, " are too large: 256"));
  }
  return absl::OkStatus();
}

// Rows on their way to the device, in memory that copies need not wait for.
struct Staging {
  int64_t elements = 0;
  DeviceMemory halves;
  std::vector<float> values;
};

// Of `elements`, or of the longest row.
absl::StatusOr<Staging> MakeStaging(const ModelConfig& config, int64_t elements,
                                    const Device& device) {
  Staging staging;
  staging.elements =
      std::max<int64_t>({elements, config.hidden_size, config.intermediate_size,
                         int64_t{config.num_heads} * config.head_dim});
  DESCANT_ASSIGN_OR_RETURN(staging.halves,
                           device.AllocateHost(static_cast<uint64_t>(
                               staging.elements * int64_t{kHalfBytes})));
  return staging;
}

absl::Status ReadHalf(const WeightSource& source, const Job& job,
                      int64_t row_begin, kernels::HalfType half,
                      std::vector<float>* scratch, absl::Span<BFloat16> out) {
  if (half == kernels::HalfType::kBf16) {
    return source.ReadBf16(job.kind, job.layer, row_begin, out);
  }
  scratch->resize(out.size());
  DESCANT_RETURN_IF_ERROR(source.ReadFp32(job.kind, job.layer, row_begin,
                                          absl::MakeSpan(*scratch)));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].bits = ToFloat16((*scratch)[i]).bits;
  }
  return absl::OkStatus();
}

// In pieces of whole rows.
absl::Status CopyTensor(const ModelConfig& config, const WeightSource& source,
                        const Job& job, std::byte* to, Staging* staging,
                        Device* device) {
  const WeightShape shape = ShapeOf(config, job.kind);
  const int64_t piece =
      std::clamp<int64_t>(staging->elements / shape.columns, 1, shape.rows);
  for (int64_t row = 0; row < shape.rows; row += piece) {
    const int64_t rows = std::min(piece, shape.rows - row);
    const auto elements = static_cast<size_t>(rows * shape.columns);
    DeviceCopy copy;
    if (job.fp32) {
      staging->values.resize(elements);
      DESCANT_RETURN_IF_ERROR(source.ReadFp32(job.kind, job.layer, row,
                                              absl::MakeSpan(staging->values)));
      copy.from = staging->values.data();
      copy.bytes = elements * sizeof(float);
    } else {
      auto* halves = staging->halves.data<BFloat16>();
      DESCANT_RETURN_IF_ERROR(ReadHalf(source, job, row, device->half(),
                                       &staging->values,
                                       absl::MakeSpan(halves, elements)));
      copy.from = halves;
      copy.bytes = elements * kHalfBytes;
    }
    copy.to = to;
    DESCANT_RETURN_IF_ERROR(device->Load({copy}));
    to += copy.bytes;
    Breathe();
  }
  return absl::OkStatus();
}

// Every tensor of a layout over `memory`.
absl::Status CopyTensors(const ModelConfig& config, const WeightSource& source,
                         absl::Span<const Job> jobs, const DeviceMemory& memory,
                         int64_t piece_elements, Device* device) {
  DESCANT_ASSIGN_OR_RETURN(Staging staging,
                           MakeStaging(config, piece_elements, *device));
  for (const Job& job : jobs) {
    DESCANT_RETURN_IF_ERROR(CopyTensor(
        config, source, job, memory.data() + job.offset, &staging, device));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaWeights>> CudaWeights::Load(
    const ModelConfig& config, const WeightSource& source, Device* device) {
  DESCANT_RETURN_IF_ERROR(CheckSizes(config));
  std::unique_ptr<CudaWeights> weights(new CudaWeights());
  weights->layers_.resize(config.num_layers);
  const auto lay_out = [&](Layout* layout) {
    weights->embedding_ = layout->Matrix(WeightKind::kEmbedding, 0);
    if (HasWeight(config, WeightKind::kPositionEmbedding)) {
      weights->position_embedding_ =
          layout->Matrix(WeightKind::kPositionEmbedding, 0);
    }
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      weights->layers_[layer] = LayOutLayer(layer, layout);
    }
    weights->final_norm_ = {layout->Vector(WeightKind::kFinalNorm, 0),
                            layout->Vector(WeightKind::kFinalNormBias, 0)};
    if (config.tied_embeddings) {
      weights->head_ = {weights->embedding_, nullptr, config.vocab_size,
                        config.hidden_size};
    } else {
      weights->head_ = layout->Linear(kHead, {}, 0);
    }
  };
  Layout count(config, nullptr);
  lay_out(&count);
  DESCANT_ASSIGN_OR_RETURN(weights->memory_, device->Allocate(count.size()));
  Layout layout(config, weights->memory_.data());
  lay_out(&layout);
  DESCANT_RETURN_IF_ERROR(CopyTensors(
      config, source, layout.jobs(), weights->memory_, kPieceElements, device));
  return weights;
}

absl::StatusOr<std::unique_ptr<CudaWeights>> CudaWeights::Merge(
    const ModelConfig& config, const MergedWeightSource& source,
    const CudaWeights& base, Device* device) {
  std::unique_ptr<CudaWeights> weights(new CudaWeights());
  weights->layers_ = base.layers_;
  weights->final_norm_ = base.final_norm_;
  weights->head_ = base.head_;
  weights->embedding_ = base.embedding_;
  weights->position_embedding_ = base.position_embedding_;
  DESCANT_ASSIGN_OR_RETURN(weights->memory_,
                           device->Allocate(MergedBytes(config, source)));
  Layout layout(config, weights->memory_.data());
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    weights->layers_[layer] =
        LayOutMerged(source, base.layers_[layer], layer, &layout);
  }
  DESCANT_RETURN_IF_ERROR(CopyTensors(config, source, layout.jobs(),
                                      weights->memory_, kMergedPieceElements,
                                      device));
  return weights;
}

uint64_t CudaWeights::MergedBytes(const ModelConfig& config,
                                  const MergedWeightSource& source) {
  Layout count(config, nullptr);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    LayOutMerged(source, {}, layer, &count);
  }
  return count.size();
}

}  // namespace descant
