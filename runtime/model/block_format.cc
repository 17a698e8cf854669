#include "runtime/model/block_format.h"

namespace descant {

const BlockFormat& BlockFormatOf(WeightType type) {
  switch (type) {
    case WeightType::kBf16:
      return kBf16Blocks;
    case WeightType::kInt8:
      return kInt8Blocks;
    case WeightType::kInt4:
      break;
  }
  return kInt4Blocks;
}

const BlockFormat* LinearFormat(const BlockFormat& format,
                                const WeightSource& source,
                                absl::Span<const WeightKind> kinds,
                                int32_t layer) {
  if (format.type != WeightType::kInt4) return &format;
  return GroupBlocksFor(source, kinds, layer);
}

}  // namespace descant
