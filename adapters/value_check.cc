#include "adapters/value_check.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

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

// Whether all magnitudes are within the limit. Both are below the sign bit, so
// signed comparisons do, which every x86-64 has for 16 bytes at a time.
// (Written as vectors: at -O2 the compiler makes none of the plain loop.)
template <typename Bits>
bool AllWithin(absl::Span<const char> bytes, Bits limit) {
  constexpr size_t kVectorBytes = 16;
  using Vector __attribute__((vector_size(kVectorBytes))) = Bits;
  constexpr Bits kMagnitude = std::numeric_limits<Bits>::max();
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  Vector beyond{};
  for (; end - at >= static_cast<ptrdiff_t>(kVectorBytes); at += kVectorBytes) {
    Vector values;
    std::memcpy(&values, at, sizeof(values));
    beyond |= (values & kMagnitude) > limit;
  }
  Bits any = 0;
  for (size_t i = 0; i < kVectorBytes / sizeof(Bits); ++i) any |= beyond[i];
  for (; at < end; at += sizeof(Bits)) {
    any |= (LoadLittleEndian<Bits>(at) & kMagnitude) > limit ? 1 : 0;
  }
  return any == 0;
}

}  // namespace

ValueCheck::ValueCheck(Dtype dtype, float max_abs_value)
    : element_bytes_(static_cast<size_t>(DtypeBytes(dtype))),
      limit_(LimitBits(dtype, max_abs_value)) {
  DESCANT_CHECK(dtype != Dtype::kOther && max_abs_value >= 0);
}

bool ValueCheck::Scan(absl::Span<const char> bytes) const {
  if (element_bytes_ == 4) {
    return AllWithin<int32_t>(bytes, static_cast<int32_t>(limit_));
  }
  return AllWithin<int16_t>(bytes, static_cast<int16_t>(limit_));
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
