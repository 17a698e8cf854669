// The checks of the CPU's kernels.
#ifndef DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_CHECKS_H_
#define DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_CHECKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/self_test_values.h"

namespace descant {

// What a result may be off by.
enum class CpuRounding { kNone, kFloat, kBf16, kAttention };

// Runs one kernel of a table, or several that go together, beside the scalar
// one.
struct CpuKernelCheck {
  const char* name;
  void (*check)(const kernels::CpuKernels&, LargestDifference*);
  CpuRounding rounding;
};

// Of kernels that work on rows and tiles; the rest is in cpu_self_test.cc.
std::vector<CpuKernelCheck> CpuRowChecks();

// Zeros that start at a cache line.
template <typename T>
class CacheLines {
 public:
  explicit CacheLines(size_t count) : lines_(count * sizeof(T) / 64 + 1) {}
  explicit CacheLines(const std::vector<T>& values)
      : CacheLines(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) data()[i] = values[i];
  }
  T* data() { return reinterpret_cast<T*>(lines_.front().bytes); }
  const T* data() const {
    return reinterpret_cast<const T*>(lines_.front().bytes);
  }
  T& operator[](size_t i) { return data()[i]; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64] = {};
  };
  std::vector<Line> lines_;
};

inline float FromBf16(kernels::bf16_t bits) { return ToFloat(BFloat16{bits}); }

inline CacheLines<kernels::bf16_t> Bf16s(size_t count, SelfTestValues* values,
                                         float range = 1) {
  CacheLines<kernels::bf16_t> result(count);
  for (size_t i = 0; i < count; ++i) {
    result[i] = ToBFloat16(range * values->Next()).bits;
  }
  return result;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_CHECKS_H_
