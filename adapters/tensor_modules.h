// Which tensor of an adapter file belongs to which module of the base model.
#ifndef DESCANT_ADAPTERS_TENSOR_MODULES_H_
#define DESCANT_ADAPTERS_TENSOR_MODULES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/base_shape.h"
#include "adapters/formats/safetensors.h"
#include "adapters/peft_config.h"

namespace descant {

// One module of a validated adapter and where its tensors are.
struct ValidatedModule {
  int32_t layer = 0;
  LinearKind kind = LinearKind::kQ;
  int32_t rank = 0;
  float scale = 0;
  size_t tensor_a = 0;  // indices into SafetensorsIndex::tensors
  size_t tensor_b = 0;
};

// Pairs base_model.model.<module path>.lora_{A,B}.weight: every tensor belongs
// to a module of the base that the config targets, every targeted module has
// its pair, A is [r, in] and B is [out, r] with the config's r for that
// module, and the scale is a normal float. By layer, then kind.
// INVALID_ARGUMENT.
absl::StatusOr<std::vector<ValidatedModule>> MatchTensors(
    const SafetensorsIndex& index, const PeftConfig& config,
    const BaseShape& base);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_TENSOR_MODULES_H_
