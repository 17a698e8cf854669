// The oracle: a decoder in plain ATen, fp32, one sequence at a time. Slow and
// meant to be read. Made by MakeReferenceRunner in model.h; this header is for
// its tests.
#ifndef DESCANT_RUNTIME_MODEL_REFERENCE_RUNNER_H_
#define DESCANT_RUNTIME_MODEL_REFERENCE_RUNNER_H_

#include <ATen/ATen.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "runtime/model/model.h"
#include "runtime/model/runner.h"
#include "runtime/model/sampler.h"
#include "runtime/model/weight_source.h"

namespace descant {

// All tensors are fp32. Computes in Collect(), on the calling thread.
// RESOURCE_EXHAUSTED is not possible: adapters take what they need.
class ReferenceRunner final : public Runner {
 public:
  // May throw c10::Error; MakeReferenceRunner turns it into a status.
  ReferenceRunner(std::shared_ptr<const Model> model,
                  const RunnerOptions& options);

  absl::Status LoadWeights();

  absl::Status Launch(const Batch& batch) override;
  absl::StatusOr<const StepOutput*> Collect() override;
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override;
  void UnloadAdapter(int32_t slot) override;
  AdapterMemory adapter_memory() const override {
    return {used_.load(std::memory_order_relaxed), 0};
  }
  uint64_t AdapterBytes(const Adapter& adapter) const override;
  int32_t num_blocks() const override { return num_blocks_; }
  const BatchLimits& limits() const override { return limits_; }
  std::string Describe() const override { return "reference fp32"; }

 private:
  // y += scale * (x A^T) B^T; undefined tensors where the adapter has none. A
  // fused module is its parts, which share A and have their rows of B.
  struct Lora {
    at::Tensor a;  // [rank, in]
    at::Tensor b;  // [out, rank]
    float scale = 0;
  };
  struct Slot {
    bool loaded = false;
    uint64_t bytes = 0;
    std::vector<std::array<Lora, kLinearKinds>> layers;
  };
  struct Layer {
    // By WeightKind, undefined where the model has none.
    std::array<at::Tensor, kLayerWeightKinds> weights;
    at::Tensor key_cache;    // [blocks, kBlockSize, kv_heads, head_dim]
    at::Tensor value_cache;  // likewise

    const at::Tensor& operator[](WeightKind kind) const {
      return weights[static_cast<size_t>(kind)];
    }
  };

  // Undefined where the model has none.
  absl::StatusOr<at::Tensor> Read(WeightKind kind, int32_t layer) const;
  void AddModule(const AdapterModule& module, Slot* slot) const;
  absl::Status Validate(const Batch& batch) const;
  absl::Status Run(const Batch& batch);
  // [rows, hidden] before the final norm.
  at::Tensor Forward(const Batch& batch);
  at::Tensor InputTokens(const Batch& batch) const;
  at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias) const;
  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor Activate(const at::Tensor& x) const;
  // The two halves of a layer, without the norms around them.
  at::Tensor Attention(const Batch& batch, int32_t layer, const at::Tensor& x);
  at::Tensor Mlp(const Batch& batch, int32_t layer, const at::Tensor& x) const;
  // x W^T + b and the segments' adapters on top.
  at::Tensor Project(const Batch& batch, int32_t layer, LinearKind kind,
                     const at::Tensor& x) const;
  // x: [rows, heads, head_dim].
  at::Tensor Rotate(const at::Tensor& x, const at::Tensor& positions,
                    int32_t layer) const;
  at::Tensor Attend(const Batch& batch, int32_t layer, const at::Tensor& query,
                    const at::Tensor& key, const at::Tensor& value) const;
  void Sample(const Batch& batch, const at::Tensor& logits);

  const std::shared_ptr<const Model> model_;
  const BatchLimits limits_;
  int32_t num_blocks_ = 0;
  at::Tensor embedding_;           // [vocab, hidden]
  at::Tensor position_embedding_;  // [max_position, hidden] or undefined
  at::Tensor final_norm_;          // [hidden]
  at::Tensor final_norm_bias_;     // [hidden] or undefined
  at::Tensor head_;                // [vocab, hidden]
  std::vector<Layer> layers_;
  std::vector<Slot> slots_;
  std::atomic<uint64_t> used_{0};    // bytes of slots_
  std::vector<int32_t> last_token_;  // by state_slot
  SamplerScratch scratch_;
  StepOutput output_;
  const Batch* in_flight_ = nullptr;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_REFERENCE_RUNNER_H_
