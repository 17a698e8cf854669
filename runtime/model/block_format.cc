#include "runtime/model/block_format.h"

#include "absl/strings/str_cat.h"

namespace descant {

absl::StatusOr<const BlockFormat*> BlockFormatOf(WeightType type) {
  switch (type) {
    case WeightType::kBf16:
      return &kBf16Blocks;
    case WeightType::kInt4:
      return &kInt4Blocks;
    case WeightType::kInt8:
      break;
  }
  return absl::UnimplementedError(absl::StrCat(
      "weights in ", WeightTypeName(type), " are not served by this version"));
}

const BlockFormat* LinearFormat(const BlockFormat& format,
                                const WeightSource& source,
                                absl::Span<const WeightKind> kinds,
                                int32_t layer) {
  if (format.type != WeightType::kInt4) return &format;
  return GroupBlocksFor(source, kinds, layer);
}

}  // namespace descant
