#include "runtime/model/block_format.h"

#include "absl/strings/str_cat.h"

namespace descant {

absl::StatusOr<const BlockFormat*> BlockFormatOf(WeightType type) {
  switch (type) {
    case WeightType::kBf16:
      return &kBf16Blocks;
    case WeightType::kInt8:
    case WeightType::kInt4:
      break;
  }
  return absl::UnimplementedError(absl::StrCat(
      "weights in ", WeightTypeName(type), " are not served by this version"));
}

}  // namespace descant
