// Overflow-checked arithmetic for sizes that come from untrusted bytes.
#ifndef DESCANT_RUNTIME_BASE_CHECKED_SIZE_H_
#define DESCANT_RUNTIME_BASE_CHECKED_SIZE_H_

#include <cstdint>
#include <optional>

namespace descant {

// An unsigned 64-bit size that remembers an overflow instead of wrapping.
// Value type; thread-compatible.
class CheckedSize {
 public:
  constexpr CheckedSize() = default;
  constexpr explicit CheckedSize(uint64_t value) : value_(value) {}

  constexpr CheckedSize operator+(CheckedSize other) const {
    CheckedSize result;
    result.overflow_ =
        __builtin_add_overflow(value_, other.value_, &result.value_) ||
        overflow_ || other.overflow_;
    return result;
  }
  constexpr CheckedSize operator*(CheckedSize other) const {
    CheckedSize result;
    result.overflow_ =
        __builtin_mul_overflow(value_, other.value_, &result.value_) ||
        overflow_ || other.overflow_;
    return result;
  }
  constexpr CheckedSize operator-(CheckedSize other) const {
    CheckedSize result;
    result.overflow_ =
        __builtin_sub_overflow(value_, other.value_, &result.value_) ||
        overflow_ || other.overflow_;
    return result;
  }

  // Empty after any overflow on the way here.
  constexpr std::optional<uint64_t> value() const {
    if (overflow_) return std::nullopt;
    return value_;
  }

 private:
  uint64_t value_ = 0;
  bool overflow_ = false;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_CHECKED_SIZE_H_
