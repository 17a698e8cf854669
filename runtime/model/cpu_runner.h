// The CPU runner: packed weights, hand-written kernels, pinned workers.
//
// A step is computed inside Launch; Collect hands it out. The same request
// with the same weights on the same instruction set gets the same bits, alone
// or in any batch, however its prompt was chunked, on any number of threads.
#ifndef DESCANT_RUNTIME_MODEL_CPU_RUNNER_H_
#define DESCANT_RUNTIME_MODEL_CPU_RUNNER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/worker_pool.h"
#include "runtime/model/adapter_pool.h"
#include "runtime/model/cpu_runner_step.h"
#include "runtime/model/cpu_runner_weights.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/model/runner.h"

namespace descant {

class CpuRunner final : public Runner {
 public:
  // INVALID_ARGUMENT: a bad DESCANT_CPU_ISA, a layer too wide for int8,
  // KV memory below one block, or a head of odd size, which the packed layouts
  // can't hold. RESOURCE_EXHAUSTED: memory. Errors of the weight source.
  static absl::StatusOr<std::unique_ptr<CpuRunner>> Create(
      std::shared_ptr<const Model> model, const RunnerOptions& options);

  // UNIMPLEMENTED: pooled outputs, which no decoder has.
  absl::Status Launch(const Batch& batch) override;
  absl::StatusOr<const StepOutput*> Collect() override;
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override;
  void UnloadAdapter(int32_t slot) override;
  absl::Status can_merge() const override;
  uint64_t MergedBytes(const Adapter& adapter) const override;
  uint64_t MostMergedBytes() const override;
  absl::StatusOr<std::shared_ptr<const MergedWeights>> MergeAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override;
  absl::Status Rehearse(const Batch& batch,
                        const MergedWeights* merged) override;
  absl::StatusOr<LogprobDifference> CompareWithRehearsal() override;
  AdapterMemory adapter_memory() const override { return adapters_->memory(); }
  uint64_t AdapterBytes(const Adapter& adapter) const override;
  int32_t num_blocks() const override { return kv_.num_blocks(); }
  const BatchLimits& limits() const override { return limits_; }
  std::string Describe() const override;

  // Row `output` of the last step's logits, [vocab_size]: for tests and
  // measurements.
  absl::Span<const float> Logits(int32_t output) const;

  // Steps from now on are booked in `timer`, which must outlive them; null
  // ends it. For benches.
  void SetTimer(CpuPhaseTimer* timer) { state_.timer = timer; }
  int32_t workers() const { return pool_.size(); }
  const CpuWeights& weights() const { return *weights_; }

 private:
  CpuRunner(std::shared_ptr<const Model> model, const RunnerOptions& options);

  absl::Status ChooseKernels(AdapterWeightType adapters);
  absl::Status PrepareBrgemm();
  absl::Status AllocateScratch();
  void FillRopeTables();
  // A step with these layers, [num_layers]. REQUIRES: the batch isn't empty.
  void Compute(const Batch& batch, const CpuLayerWeights* layers,
               bool with_adapters);

  const std::shared_ptr<const Model> model_;
  const BatchLimits limits_;
  kernels::WorkerPool pool_;
  std::unique_ptr<CpuWeights> weights_;
  KvCache kv_;
  std::unique_ptr<AdapterPool> adapters_;
  kernels::Arena scratch_;
  int32_t positions_ = 0;  // that rope tables or embeddings are for
  // Of layers without and with a window, where their rotations differ.
  RopeRotations rotations_[2];
  std::vector<std::unique_ptr<SamplerScratch>> samplers_;
  std::vector<int32_t> last_tokens_;  // by state slot
  CpuStepState state_;
  StepOutput output_;
  // The logits of the last Rehearse, as Logits(); until they were compared.
  std::vector<float> rehearsed_;
  absl::Status result_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_RUNNER_H_
