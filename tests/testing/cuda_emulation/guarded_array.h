// What stands for device memory: an array behind which a page starts that can't
// be touched. A kernel that reads or writes beyond it stops the test. So it is
// from one page to kFront bytes in front of it.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace descant::cuda_emulation {

// Starts at a multiple of 16 bytes; up to 15 bytes behind the end are within
// the page, and are NaNs, as are contents at first.
template <typename T>
class GuardedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  GuardedArray() = default;
  explicit GuardedArray(size_t count) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = (count * sizeof(T) + 15) / 16 * 16;
    const size_t used = (bytes + page - 1) / page * page;
    mapped_ = kFront + used + page;
    void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(memory);
    std::byte* const begin = base_ + kFront;
    if (mprotect(base_, kFront, PROT_NONE) != 0) std::abort();
    if (mprotect(begin + used, page, PROT_NONE) != 0) std::abort();
    std::memset(begin, 0xff, used);
    data_ = reinterpret_cast<T*>(begin + used - bytes);
  }
  explicit GuardedArray(const std::vector<T>& values)
      : GuardedArray(values.size()) {
    std::copy(values.begin(), values.end(), data_);
  }
  GuardedArray(GuardedArray&& other) noexcept { *this = std::move(other); }
  GuardedArray& operator=(GuardedArray&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~GuardedArray() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }

 private:
  static constexpr size_t kFront = size_t{64} << 10;

  std::byte* base_ = nullptr;
  size_t mapped_ = 0;
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace descant::cuda_emulation

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_GUARDED_ARRAY_H_
