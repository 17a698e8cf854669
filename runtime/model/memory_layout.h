// Pieces of one allocation, laid out twice: first to count, then to fill.
#ifndef DESCANT_RUNTIME_MODEL_MEMORY_LAYOUT_H_
#define DESCANT_RUNTIME_MODEL_MEMORY_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace descant {

// Hands out aligned pieces one behind the other; without a base it only counts.
// The base has the alignment.
class MemoryLayout {
 public:
  static constexpr int64_t kCacheLine = 64;

  explicit MemoryLayout(std::byte* base, int64_t alignment = kCacheLine)
      : base_(base), alignment_(static_cast<uint64_t>(alignment)) {}

  uint64_t size() const { return size_; }

  template <typename T>
  T* Take(int64_t elements) {
    const uint64_t at = size_;
    const uint64_t bytes = static_cast<uint64_t>(elements) * sizeof(T);
    size_ += (bytes + alignment_ - 1) / alignment_ * alignment_;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }

 private:
  std::byte* const base_;
  const uint64_t alignment_;
  uint64_t size_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MEMORY_LAYOUT_H_
