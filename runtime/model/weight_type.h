// What a runner keeps the base model's matrices as.
#ifndef DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_
#define DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace descant {

// Norms, biases, positions and adapters keep their precision in all of them.
enum class WeightType : uint8_t {
  kBf16,
  kInt8,  // one scale for each output channel
  kInt4,  // one scale for each group of input channels
};

// "bf16", "int8", "int4".
absl::string_view WeightTypeName(WeightType type);

// Nothing for any other name.
std::optional<WeightType> ParseWeightType(absl::string_view name);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_
