// CudaStep: what it allocates, once.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cuda_step.h"

namespace descant {
namespace {

using kernels::kLoraTileRows;

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kHalfBytes = 2;
// Of partial sums of attention: as many rows go at once as fit.
constexpr uint64_t kPartialBytes = uint64_t{64} << 20;

// Hands out pieces of the scratch; without a base it only counts.
class Cursor {
 public:
  explicit Cursor(std::byte* base) : base_(base) {}
  uint64_t size() const { return size_; }
  template <typename T>
  T* Take(uint64_t elements, uint64_t bytes_each = sizeof(T)) {
    const uint64_t at = size_;
    size_ += (elements * bytes_each + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  void* TakeHalf(uint64_t elements) {
    return Take<std::byte>(elements, kHalfBytes);
  }

 private:
  std::byte* base_;
  uint64_t size_ = 0;
};

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

CudaStep::CudaStep(const Parts& parts, const BatchLimits& limits)
    : parts_(parts), layout_(limits), max_slots_(limits.max_slots) {}

absl::StatusOr<std::unique_ptr<CudaStep>> CudaStep::Create(
    const Parts& parts, const BatchLimits& limits) {
  std::unique_ptr<CudaStep> step(new CudaStep(parts, limits));
  DESCANT_RETURN_IF_ERROR(step->Allocate(limits));
  step->MakeRopeTables(limits);
  DESCANT_RETURN_IF_ERROR(step->LoadRopeTables());
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
  // Sums of the largest step of every number of splits.
  for (int32_t row = 1; row <= limits.max_rows; ++row) {
    const int64_t tiles = kernels::MaxLoraTiles(row, limits.max_slots);
    plane_floats_ = std::max(plane_floats_, int64_t{ShrinkSplits(row)} * tiles *
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
  const auto lay_out = [&](Cursor* cursor) {
    x_ = cursor->Take<float>(rows * hidden);
    normed_ = cursor->TakeHalf(rows * hidden);
    qkv_ = cursor->TakeHalf(rows * static_cast<uint64_t>(layer.qkv.columns));
    attended_ = cursor->TakeHalf(rows * static_cast<uint64_t>(layer.out.depth));
    delta_ = cursor->TakeHalf(rows * hidden);
    gate_up_ =
        cursor->TakeHalf(rows * static_cast<uint64_t>(layer.gate_up.columns));
    activated_ =
        cursor->TakeHalf(rows * static_cast<uint64_t>(layer.down.depth));
    final_normed_ = cursor->TakeHalf(outputs * hidden);
    logits_ = cursor->TakeHalf(outputs * static_cast<uint64_t>(logits_stride_));
    planes_ = cursor->Take<float>(static_cast<uint64_t>(plane_floats_));
    const auto tiles = static_cast<uint64_t>(max_tiles_) * kMaxLoraRounds;
    tile_slots_ = cursor->Take<int32_t>(tiles);
    tile_rows_ = cursor->Take<int32_t>(tiles * kLoraTileRows);
    partials_ = cursor->Take<float>(static_cast<uint64_t>(rows_at_once_) *
                                    row_partials / sizeof(float));
  };
  Cursor count(nullptr);
  lay_out(&count);
  DESCANT_ASSIGN_OR_RETURN(scratch_, parts_.device->Allocate(count.size()));
  Cursor cursor(scratch_.data());
  lay_out(&cursor);
  return absl::OkStatus();
}

// In fp32 as Hugging Face does it: the angle is rounded before its cosine.
void CudaStep::MakeRopeTables(const BatchLimits& limits) {
  const ModelConfig& config = *parts_.config;
  positions_ = static_cast<int32_t>(
      std::min<int64_t>(config.max_position,
                        int64_t{kBlockSize} * limits.max_blocks_per_sequence));
  if (config.position == PositionKind::kLearned) return;
  const auto fill = [&](const RopeConfig& rope, Rotation* rotation) {
    const std::vector<float> frequencies =
        RopeInverseFrequencies(rope, config.head_dim);
    rotation->half = static_cast<int32_t>(frequencies.size());
    for (int32_t position = 0; position < positions_; ++position) {
      for (const float frequency : frequencies) {
        const float angle = static_cast<float>(position) * frequency;
        rotation->cos.push_back(std::cos(angle) * rope.attention_factor);
        rotation->sin.push_back(std::sin(angle) * rope.attention_factor);
      }
    }
  };
  fill(config.rope, &rotations_[0]);
  if (config.window_rope.has_value()) fill(*config.window_rope, &rotations_[1]);
}

absl::Status CudaStep::LoadRopeTables() {
  for (Rotation& rotation : rotations_) {
    if (rotation.half == 0) continue;
    const uint64_t bytes = rotation.cos.size() * sizeof(float);
    DESCANT_ASSIGN_OR_RETURN(rotation.memory,
                             parts_.device->Allocate(2 * bytes));
    DESCANT_RETURN_IF_ERROR(parts_.device->Load(
        {{rotation.memory.data(), rotation.cos.data(), bytes},
         {rotation.memory.data(bytes), rotation.sin.data(), bytes}}));
  }
  return absl::OkStatus();
}

}  // namespace descant
