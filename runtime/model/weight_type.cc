#include "runtime/model/weight_type.h"

namespace descant {

absl::string_view WeightTypeName(WeightType type) {
  switch (type) {
    case WeightType::kBf16:
      return "bf16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      break;
  }
  return "int4";
}

std::optional<WeightType> ParseWeightType(absl::string_view name) {
  for (const WeightType type :
       {WeightType::kBf16, WeightType::kInt8, WeightType::kInt4}) {
    if (name == WeightTypeName(type)) return type;
  }
  return std::nullopt;
}

absl::string_view AdapterWeightTypeName(AdapterWeightType type) {
  return type == AdapterWeightType::kInt8 ? "int8" : "bf16";
}

std::optional<AdapterWeightType> ParseAdapterWeightType(
    absl::string_view name) {
  for (const AdapterWeightType type :
       {AdapterWeightType::kBf16, AdapterWeightType::kInt8}) {
    if (name == AdapterWeightTypeName(type)) return type;
  }
  return std::nullopt;
}

}  // namespace descant
