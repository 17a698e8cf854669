// What kernels under test compute on. Over the emulation it stands for device
// memory: behind an array, and at some distance before it, pages lie that can't
// be touched, and a kernel that reads or writes there stops the test. On a GPU
// (tests/gpu) the same objects are linked to memory that host and device share.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace descant::cuda_emulation {

// At a multiple of 16 bytes, all of it 0xff: NaNs. A failure ends the process.
struct GuardedMemory {
  void* data = nullptr;
  void* base = nullptr;  // what the two functions know it by
  size_t mapped = 0;
};
// `bytes` is a multiple of 16. Of none there is an address all the same.
GuardedMemory AllocateGuarded(size_t bytes);
void FreeGuarded(const GuardedMemory& memory);

// Up to 15 bytes behind the end may be touched, and are NaNs.
template <typename T>
class GuardedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  GuardedArray() = default;
  explicit GuardedArray(size_t count)
      : memory_(AllocateGuarded((count * sizeof(T) + 15) / 16 * 16)),
        count_(count) {}
  explicit GuardedArray(const std::vector<T>& values)
      : GuardedArray(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }
  GuardedArray(GuardedArray&& other) noexcept { *this = std::move(other); }
  GuardedArray& operator=(GuardedArray&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~GuardedArray() {
    if (memory_.base != nullptr) FreeGuarded(memory_);
  }

  T* data() { return static_cast<T*>(memory_.data); }
  const T* data() const { return static_cast<const T*>(memory_.data); }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + count_; }

 private:
  GuardedMemory memory_;
  size_t count_ = 0;
};

}  // namespace descant::cuda_emulation

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_
