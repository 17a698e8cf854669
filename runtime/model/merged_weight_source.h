// The base model's tensors with one adapter added to them.
#ifndef DESCANT_RUNTIME_MODEL_MERGED_WEIGHT_SOURCE_H_
#define DESCANT_RUNTIME_MODEL_MERGED_WEIGHT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/float16.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/weight_source.h"

namespace descant {

// Gives W0 + scale B A, computed in fp32 from W0 before it is rounded, wherever
// the adapter has a module, and what the base gives everywhere else.
// Thread-safe where the base is.
class MergedWeightSource final : public WeightSource {
 public:
  // `base` outlives it. REQUIRES: the adapter has its tensors and fits
  // `config`.
  MergedWeightSource(const ModelConfig& config, const WeightSource* base,
                     std::shared_ptr<const Adapter> adapter);

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override;
  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override;

  // Whether the adapter changes this tensor.
  bool IsMerged(WeightKind kind, int32_t layer) const {
    return SliceOf(kind, layer) != nullptr;
  }

 private:
  // Null: the adapter leaves it alone.
  const ModuleSlice* SliceOf(WeightKind kind, int32_t layer) const;

  const ModelConfig config_;
  const WeightSource* const base_;
  const std::shared_ptr<const Adapter> adapter_;
  std::vector<LayerModules> layers_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MERGED_WEIGHT_SOURCE_H_
