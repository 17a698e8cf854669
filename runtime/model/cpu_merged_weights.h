// One adapter's merged weights as the CPU kernels read them.
#ifndef DESCANT_RUNTIME_MODEL_CPU_MERGED_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_CPU_MERGED_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/worker_pool.h"
#include "runtime/model/cpu_runner_weights.h"
#include "runtime/model/merged_weights.h"
#include "runtime/model/weight_source.h"

namespace descant {

struct Adapter;  // adapters/adapter.h

// Blocks of its own for each linear module that the adapter changes (q, k and v
// are one, gate and up as well); all else is the base's.
class CpuMergedWeights final : public MergedWeights {
 public:
  // Packs them on this thread, with Breathe() between blocks. `base` has bf16
  // weights, packed from `source`, and outlives this; `adapter` has its
  // tensors. RESOURCE_EXHAUSTED: no memory. Errors of `source`.
  static absl::StatusOr<std::shared_ptr<const CpuMergedWeights>> Build(
      const ModelConfig& config, const WeightSource& source,
      const CpuWeights& base, const kernels::WorkerPool& pool,
      const std::shared_ptr<const Adapter>& adapter);

  // What Build takes for it; its tensors are not needed.
  static uint64_t Bytes(const ModelConfig& config, const CpuWeights& base,
                        const Adapter& adapter);

  uint64_t bytes() const override { return arena_.size(); }
  const CpuLayerWeights* layers() const { return layers_.data(); }

 private:
  CpuMergedWeights() = default;

  kernels::Arena arena_;
  std::vector<CpuLayerWeights> layers_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_MERGED_WEIGHTS_H_
