// The values of a stream of tensor bytes: finite and within a limit.
#ifndef DESCANT_ADAPTERS_VALUE_CHECK_H_
#define DESCANT_ADAPTERS_VALUE_CHECK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "adapters/formats/dtype.h"

namespace descant {

// Takes one tensor's bytes in any pieces. REQUIRES: not kOther.
class ValueCheck {
 public:
  ValueCheck(Dtype dtype, float max_abs_value);

  // False once an element is NaN, infinite or beyond the limit.
  bool Append(absl::Span<const char> bytes);

 private:
  // Whole elements.
  bool Scan(absl::Span<const char> bytes) const;

  size_t element_bytes_;
  uint32_t limit_;             // largest allowed magnitude, as its bits
  std::array<char, 4> carry_;  // an element cut in two by pieces
  size_t carried_ = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_VALUE_CHECK_H_
