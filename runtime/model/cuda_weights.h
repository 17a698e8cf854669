// The base model's weights as the CUDA runner reads them: row-major matrices in
// the device's 16-bit type, those that read the same x one below the other.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_CUDA_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/device.h"
#include "runtime/model/merged_weight_source.h"
#include "runtime/model/merged_weights.h"
#include "runtime/model/model_config.h"
#include "runtime/model/weight_source.h"

namespace descant {

// w [columns, depth], bias [columns] or null, both in the 16-bit type.
struct CudaLinear {
  const void* w = nullptr;
  const void* bias = nullptr;
  int32_t columns = 0;
  int32_t depth = 0;
};

// In fp32, [hidden]; layer norms alone have a bias.
struct CudaNorm {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

// What the model has not is null.
struct CudaLayerWeights {
  CudaNorm attention_norm;
  CudaNorm mlp_norm;
  const float* attention_post_norm = nullptr;  // [hidden]
  const float* mlp_post_norm = nullptr;        // [hidden]
  const float* query_norm = nullptr;           // [head_dim]
  const float* key_norm = nullptr;
  CudaLinear qkv;  // q, k, v
  CudaLinear out;
  CudaLinear gate_up;  // gate, up; or up alone
  CudaLinear down;
};

// All sizes of rows are multiples of this: what 16 bytes hold.
inline constexpr int32_t kCudaColumns = 8;

// Immutable once loaded. What frees its memory may be any thread.
class CudaWeights {
 public:
  // Reads every tensor once. INVALID_ARGUMENT: a size that is no multiple of
  // kCudaColumns, or heads of more than 256. RESOURCE_EXHAUSTED: the device's
  // memory, with what is needed. Errors of `source` and `device`.
  static absl::StatusOr<std::unique_ptr<CudaWeights>> Load(
      const ModelConfig& config, const WeightSource& source, Device* device);

  // Those of `base`, which outlives it, with the groups of matrices that the
  // adapter of `source` changes in one allocation of its own. Thread-safe,
  // beside steps; breathes. RESOURCE_EXHAUSTED: the device's memory. Errors of
  // `source` and `device`.
  static absl::StatusOr<std::unique_ptr<CudaWeights>> Merge(
      const ModelConfig& config, const MergedWeightSource& source,
      const CudaWeights& base, Device* device);
  // What that allocates.
  static uint64_t MergedBytes(const ModelConfig& config,
                              const MergedWeightSource& source);

  const CudaLayerWeights& layer(int32_t index) const { return layers_[index]; }
  const CudaNorm& final_norm() const { return final_norm_; }
  const CudaLinear& head() const { return head_; }
  const void* embedding() const { return embedding_; }  // [vocab, hidden]
  // [max_position, hidden], or null.
  const void* position_embedding() const { return position_embedding_; }
  // Of its own memory.
  uint64_t bytes() const { return memory_.size(); }

 private:
  CudaWeights() = default;

  DeviceMemory memory_;
  std::vector<CudaLayerWeights> layers_;
  CudaNorm final_norm_;
  CudaLinear head_;
  const void* embedding_ = nullptr;
  const void* position_embedding_ = nullptr;
};

// As the engine holds them.
class CudaMergedWeights final : public MergedWeights {
 public:
  // `room`: let go when the memory is free again.
  CudaMergedWeights(std::shared_ptr<const void> room,
                    std::shared_ptr<const CudaWeights> weights)
      : room_(std::move(room)), weights_(std::move(weights)) {}
  uint64_t bytes() const override { return weights_->bytes(); }
  const std::shared_ptr<const CudaWeights>& weights() const { return weights_; }

 private:
  const std::shared_ptr<const void> room_;
  const std::shared_ptr<const CudaWeights> weights_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_WEIGHTS_H_
