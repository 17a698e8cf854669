// CudaStep: what it allocates, once.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cuda_step.h"
#include "runtime/model/memory_layout.h"

namespace descant {
namespace {

using kernels::kLoraTileRows;

constexpr int64_t kAlignment = 256;
constexpr uint64_t kHalfBytes = 2;
// Of partial sums of attention: as many rows go at once as fit.
constexpr uint64_t kPartialBytes = uint64_t{64} << 20;

// Of a 16-bit type.
void* TakeHalf(uint64_t elements, MemoryLayout* layout) {
  return layout->Take<uint16_t>(static_cast<int64_t>(elements));
}

// As many as the model has and a sequence's pages hold.
int32_t ServedPositions(const ModelConfig& config, const BatchLimits& limits) {
  return static_cast<int32_t>(
      std::min<int64_t>(config.max_position,
                        int64_t{kBlockSize} * limits.max_blocks_per_sequence));
}

// Tokens of contexts for the library's attention, which can't cap its logits.
int32_t GatherTokens(const CudaStep::Parts& parts, const BatchLimits& limits,
                     uint64_t bytes) {
  const ModelConfig& config = *parts.config;
  if (config.attention_logit_cap != 0 ||
      !parts.device->HasChunkAttention(config.head_dim)) {
    return 0;
  }
  const uint64_t token = CudaKvCache::BlockBytes(config) / kBlockSize /
                         static_cast<uint64_t>(config.num_layers);
  // No more than all sequences at their full length.
  return static_cast<int32_t>(std::min<uint64_t>(
      bytes / token,
      uint64_t{kBlockSize} * static_cast<uint64_t>(limits.max_sequences) *
          static_cast<uint64_t>(limits.max_blocks_per_sequence)));
}

}  // namespace

uint64_t CudaKvCache::BlockBytes(const ModelConfig& config) {
  return kHalfBytes * 2 * kBlockSize *
         static_cast<uint64_t>(config.num_layers) *
         static_cast<uint64_t>(config.num_kv_heads) *
         static_cast<uint64_t>(config.head_dim);
}

absl::StatusOr<CudaKvCache> CudaKvCache::Create(const ModelConfig& config,
                                                uint64_t bytes,
                                                Device* device) {
  CudaKvCache cache;
  const uint64_t block = BlockBytes(config);
  cache.num_blocks_ = static_cast<int32_t>(
      std::min<uint64_t>(bytes / block, INT32_MAX / kBlockSize));
  if (cache.num_blocks_ == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV memory of ", bytes, " bytes is below one block of ",
                     block, " bytes"));
  }
  cache.tensor_bytes_ = static_cast<uint64_t>(cache.num_blocks_) * block /
                        (2 * static_cast<uint64_t>(config.num_layers));
  DESCANT_ASSIGN_OR_RETURN(
      cache.memory_,
      device->Allocate(cache.tensor_bytes_ * 2 *
                       static_cast<uint64_t>(config.num_layers)));
  return cache;
}

kernels::CudaKvLayer CudaKvCache::Layer(int32_t layer) const {
  const uint64_t at = 2 * tensor_bytes_ * static_cast<uint64_t>(layer);
  return {memory_.data(at), memory_.data(at + tensor_bytes_)};
}

CudaStep::CudaStep(const Parts& parts, const BatchLimits& limits,
                   int32_t gather_tokens)
    : parts_(parts),
      layout_(limits, gather_tokens),
      max_slots_(limits.max_slots),
      positions_(ServedPositions(*parts.config, limits)) {}

absl::StatusOr<std::unique_ptr<CudaStep>> CudaStep::Create(
    const Parts& parts, const BatchLimits& limits, uint64_t gather_bytes) {
  std::unique_ptr<CudaStep> step(
      new CudaStep(parts, limits, GatherTokens(parts, limits, gather_bytes)));
  DESCANT_RETURN_IF_ERROR(step->Allocate(limits));
  DESCANT_RETURN_IF_ERROR(step->LoadRotations());
  return step;
}

absl::Status CudaStep::Allocate(const BatchLimits& limits) {
  const ModelConfig& config = *parts_.config;
  DESCANT_ASSIGN_OR_RETURN(arrays_, parts_.device->Allocate(layout_.size));
  const auto rows = static_cast<uint64_t>(limits.max_rows);
  const auto outputs = static_cast<uint64_t>(limits.max_outputs);
  const auto hidden = static_cast<uint64_t>(config.hidden_size);
  const CudaLayerWeights& layer = parts_.weights->layer(0);
  max_tiles_ = kernels::MaxLoraTiles(limits.max_rows, limits.max_slots);
  logits_stride_ =
      (config.vocab_size + kCudaColumns - 1) / kCudaColumns * kCudaColumns;
  int64_t plane_floats = 0;
  // Sums of the largest step of every number of splits.
  for (int32_t row = 1; row <= limits.max_rows; ++row) {
    const int64_t tiles = kernels::MaxLoraTiles(row, limits.max_slots);
    plane_floats = std::max(plane_floats, int64_t{ShrinkSplits(row)} * tiles *
                                              kLoraTileRows *
                                              CudaAdapterPool::MaxSiteRank());
  }
  const int64_t parts_most = (int64_t{layout_.table_stride} * kBlockSize +
                              kernels::kAttentionSplit - 1) /
                             kernels::kAttentionSplit;
  const uint64_t row_partials = sizeof(float) *
                                static_cast<uint64_t>(config.num_heads) *
                                static_cast<uint64_t>(parts_most) *
                                static_cast<uint64_t>(config.head_dim + 2);
  rows_at_once_ = static_cast<int32_t>(
      std::clamp<uint64_t>(kPartialBytes / row_partials, 1, rows));
  const auto lay_out = [&](MemoryLayout* layout) {
    x_ = layout->Take<float>(static_cast<int64_t>(rows * hidden));
    normed_ = TakeHalf(rows * hidden, layout);
    qkv_ = TakeHalf(rows * static_cast<uint64_t>(layer.qkv.columns), layout);
    attended_ = TakeHalf(rows * static_cast<uint64_t>(layer.out.depth), layout);
    delta_ = TakeHalf(rows * hidden, layout);
    gate_up_ =
        TakeHalf(rows * static_cast<uint64_t>(layer.gate_up.columns), layout);
    activated_ =
        TakeHalf(rows * static_cast<uint64_t>(layer.down.depth), layout);
    final_normed_ = TakeHalf(outputs * hidden, layout);
    const uint64_t logits = outputs * static_cast<uint64_t>(logits_stride_);
    half_logits_ = TakeHalf(logits, layout);
    logits_ = layout->Take<float>(static_cast<int64_t>(logits));
    planes_ = layout->Take<float>(plane_floats);
    const int64_t tiles = int64_t{max_tiles_} * kMaxLoraRounds;
    tile_slots_ = layout->Take<int32_t>(tiles);
    tile_rows_ = layout->Take<int32_t>(tiles * kLoraTileRows);
    partials_ = layout->Take<float>(static_cast<int64_t>(
        static_cast<uint64_t>(rows_at_once_) * row_partials / sizeof(float)));
    const uint64_t gathered = static_cast<uint64_t>(layout_.gather_tokens) *
                              static_cast<uint64_t>(config.num_kv_heads) *
                              static_cast<uint64_t>(config.head_dim);
    gathered_keys_ = TakeHalf(gathered, layout);
    gathered_values_ = TakeHalf(gathered, layout);
  };
  MemoryLayout count(nullptr, kAlignment);
  lay_out(&count);
  DESCANT_ASSIGN_OR_RETURN(scratch_, parts_.device->Allocate(count.size()));
  MemoryLayout layout(scratch_.data(), kAlignment);
  lay_out(&layout);
  return absl::OkStatus();
}

absl::Status CudaStep::LoadRotations() {
  const ModelConfig& config = *parts_.config;
  if (config.position == PositionKind::kLearned) return absl::OkStatus();
  const auto load = [&](const RopeConfig& rope, Rotations* to) -> absl::Status {
    const RopeRotations from =
        MakeRopeRotations(rope, config.head_dim, positions_);
    const uint64_t bytes = from.cos.size() * sizeof(float);
    DESCANT_ASSIGN_OR_RETURN(to->cos, parts_.device->Allocate(bytes));
    DESCANT_ASSIGN_OR_RETURN(to->sin, parts_.device->Allocate(bytes));
    to->pairs = from.pairs;
    return parts_.device->Load({{to->cos.data(), from.cos.data(), bytes},
                                {to->sin.data(), from.sin.data(), bytes}});
  };
  DESCANT_RETURN_IF_ERROR(load(config.rope, &rotations_[0]));
  if (!config.window_rope.has_value()) return absl::OkStatus();
  return load(*config.window_rope, &rotations_[1]);
}

}  // namespace descant
