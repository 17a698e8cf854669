// What the checks of kernels share: their inputs, and how far a result is from
// what it should be.
#ifndef DESCANT_RUNTIME_MODEL_SELF_TEST_VALUES_H_
#define DESCANT_RUNTIME_MODEL_SELF_TEST_VALUES_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace descant {

// The same values every time, in [-1, 1).
class SelfTestValues {
 public:
  explicit SelfTestValues(uint64_t seed) : state_(seed) {}

  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }
  std::vector<float> Floats(size_t count, float range = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = range * Next();
    return values;
  }

 private:
  uint64_t state_;
};

// The largest error so far.
class LargestDifference {
 public:
  // |wanted - got| relative to `size`, the magnitude of the terms of which the
  // value is the sum. Stays NaN once it is.
  void Add(double wanted, double got, double size) {
    if (wanted == got || std::isnan(error_)) return;
    const double error = std::abs(wanted - got) / size;
    error_ = std::isnan(error) ? error : std::max(error_, error);
  }
  // Relative to a value of 1, or the value itself where that is more.
  void Add(double wanted, double got) {
    Add(wanted, got, std::max(1.0, std::abs(wanted)));
  }
  double error() const { return error_; }

 private:
  double error_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_SELF_TEST_VALUES_H_
