// The CUDA runner: base weights through the library's products, adapters and
// attention by our own kernels, decodes from captured graphs.
//
// A step is enqueued in Launch and waited for in Collect. Results hold to the
// CPU runner's within the tolerance of 16-bit activations; bits may differ from
// batch to batch (the library's products choose their algorithm by the number
// of rows).
#ifndef DESCANT_RUNTIME_MODEL_CUDA_RUNNER_H_
#define DESCANT_RUNTIME_MODEL_CUDA_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/cuda_adapter_pool.h"
#include "runtime/model/cuda_step.h"
#include "runtime/model/cuda_step_sampling.h"
#include "runtime/model/cuda_weights.h"
#include "runtime/model/device.h"
#include "runtime/model/model.h"
#include "runtime/model/runner.h"

namespace descant {

class CudaRunner final : public Runner {
 public:
  // INVALID_ARGUMENT: a model that the kernels have no sizes for, KV memory
  // below one block. RESOURCE_EXHAUSTED: the device's memory. Errors of the
  // weight source and the device. `gather_bytes`: as CudaStep::Create's.
  static absl::StatusOr<std::unique_ptr<CudaRunner>> Create(
      std::shared_ptr<const Model> model, const RunnerOptions& options,
      std::unique_ptr<Device> device, uint64_t gather_bytes = kGatherBytes);

  // UNIMPLEMENTED: pooled outputs, which no decoder has. A device that failed
  // fails every later step.
  absl::Status Launch(const Batch& batch) override;
  absl::StatusOr<const StepOutput*> Collect() override;
  absl::Status health() const override { return health_; }
  bool overlaps() const override { return true; }
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override;
  void UnloadAdapter(int32_t slot) override;
  AdapterMemory adapter_memory() const override { return adapters_->memory(); }
  void ClearBlocks(absl::Span<const int32_t> blocks) override;
  absl::Status can_merge() const override { return absl::OkStatus(); }
  uint64_t MergedBytes(const Adapter& adapter) const override;
  uint64_t MostMergedBytes() const override;
  // RESOURCE_EXHAUSTED too where the memory is the library's.
  absl::StatusOr<std::shared_ptr<const MergedWeights>> MergeAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status Rehearse(const Batch& batch,
                        const MergedWeights* merged) override;
  absl::StatusOr<LogprobDifference> CompareWithRehearsal() override;
  uint64_t AdapterBytes(const Adapter& adapter) const override;
  int32_t num_blocks() const override { return kv_.num_blocks(); }
  const BatchLimits& limits() const override { return limits_; }
  StepKinds step_kinds() const override { return step_->kinds(); }
  std::string Describe() const override;

  const CudaChunkCounts& chunk_counts() const { return step_->chunk_counts(); }

 private:
  CudaRunner(std::shared_ptr<const Model> model, const RunnerOptions& options,
             std::unique_ptr<Device> device);

  // Whether a pass adds what the batch's segments say.
  enum class Adapters : uint8_t { kOnTop, kLeftOut };

  absl::Status Check(const Batch& batch) const;
  const std::shared_ptr<const CudaWeights>& WeightsOf(
      const MergedWeights* merged) const;
  absl::Status EnqueuePass(const Batch& batch, const MergedWeights* merged,
                           Adapters adapters);
  absl::Status Enqueue(const Batch& batch);
  // Of merged_room_, which has it again when the last owner goes.
  absl::StatusOr<std::shared_ptr<const void>> TakeMergedRoom(
      int64_t bytes) const;
  // Of the pass that was enqueued last, when it is done.
  absl::StatusOr<std::vector<float>> TakeLogits(int32_t outputs);
  // result_, and where it is an error, whether the device outlived it.
  const absl::Status& Judge();

  const std::shared_ptr<const Model> model_;
  const BatchLimits limits_;
  // What is below uses it.
  const std::unique_ptr<Device> device_;
  std::shared_ptr<const CudaWeights> weights_;
  CudaKvCache kv_;
  std::unique_ptr<CudaAdapterPool> adapters_;
  std::unique_ptr<CudaStepSampling> sampling_;
  std::unique_ptr<CudaStep> step_;
  CudaChunks chunks_;  // of the step in flight
  DeviceMemory host_arrays_;
  const Batch* batch_ = nullptr;  // in flight
  // Logits of the last rehearsal with merged weights: of the batch that comes
  // next, and of the one that was launched last.
  std::optional<std::vector<float>> rehearsed_next_;
  std::optional<std::vector<float>> rehearsed_last_;
  // Bytes that more merged weights may take.
  std::shared_ptr<std::atomic<int64_t>> merged_room_;
  StepOutput output_;
  absl::Status result_;
  absl::Status health_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_RUNNER_H_
