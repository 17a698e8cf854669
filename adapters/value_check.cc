#include "adapters/value_check.h"

#include <algorithm>
#include <bit>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/base/little_endian.h"

namespace descant {
namespace {

// Magnitudes compare like their bits, and those of infinity and NaN are above
// every finite one's.
uint32_t LimitBits(Dtype dtype, float limit) {
  const uint32_t bits = std::bit_cast<uint32_t>(limit);
  switch (dtype) {
    case Dtype::kF32:
      return std::min(bits, 0x7f7fffffu);
    case Dtype::kBF16:
      return std::min(bits >> 16, 0x7f7fu);
    default: {
      uint32_t half = ToFloat16(limit).bits;
      if (ToFloat(Float16{static_cast<uint16_t>(half)}) > limit) --half;
      return std::min(half, 0x7bffu);
    }
  }
}

template <typename Bits>
Bits LargestMagnitude(absl::Span<const char> bytes, Bits mask) {
  Bits largest = 0;
  for (size_t i = 0; i < bytes.size(); i += sizeof(Bits)) {
    const Bits magnitude =
        static_cast<Bits>(LoadLittleEndian<Bits>(bytes.data() + i) & mask);
    largest = std::max(largest, magnitude);
  }
  return largest;
}

}  // namespace

ValueCheck::ValueCheck(Dtype dtype, float max_abs_value)
    : element_bytes_(static_cast<size_t>(DtypeBytes(dtype))),
      limit_(LimitBits(dtype, max_abs_value)) {
  DESCANT_CHECK(dtype != Dtype::kOther && max_abs_value >= 0);
}

bool ValueCheck::Scan(absl::Span<const char> bytes) const {
  if (element_bytes_ == 4) {
    return LargestMagnitude<uint32_t>(bytes, 0x7fffffffu) <= limit_;
  }
  return LargestMagnitude<uint16_t>(bytes, 0x7fffu) <= limit_;
}

bool ValueCheck::Append(absl::Span<const char> bytes) {
  if (carried_ > 0) {
    const size_t taken = std::min(element_bytes_ - carried_, bytes.size());
    std::copy_n(bytes.begin(), taken, carry_.begin() + carried_);
    carried_ += taken;
    bytes.remove_prefix(taken);
    if (carried_ < element_bytes_) return true;
    carried_ = 0;
    if (!Scan(absl::MakeConstSpan(carry_.data(), element_bytes_))) return false;
  }
  const size_t whole = bytes.size() / element_bytes_ * element_bytes_;
  if (!Scan(bytes.subspan(0, whole))) return false;
  carried_ = bytes.size() - whole;
  std::copy_n(bytes.begin() + whole, carried_, carry_.begin());
  return true;
}

}  // namespace descant
