// What a runner keeps matrices as.
#ifndef DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_
#define DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace descant {

// Of the base model. Norms, biases and positions keep their precision in all of
// them.
enum class WeightType : uint8_t {
  kBf16,
  kInt8,  // one scale for each output channel
  kInt4,  // one scale for each group of input channels
};

// "bf16", "int8", "int4".
absl::string_view WeightTypeName(WeightType type);

// Nothing for any other name.
std::optional<WeightType> ParseWeightType(absl::string_view name);

// Of the adapters.
enum class AdapterWeightType : uint8_t {
  kBf16,
  kInt8,  // one scale for each row of A and each column of B
};

// "bf16", "int8".
absl::string_view AdapterWeightTypeName(AdapterWeightType type);

// Nothing for any other name.
std::optional<AdapterWeightType> ParseAdapterWeightType(absl::string_view name);

// Of one value.
constexpr int64_t AdapterWeightBytes(AdapterWeightType type) {
  return type == AdapterWeightType::kInt8 ? 1 : 2;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_WEIGHT_TYPE_H_
