// A test of one table of kernels, for each instruction set: AMX emulated where
// the machine has none, other sets skipped where it lacks them.
#ifndef DESCANT_TESTS_RUNTIME_KERNELS_KERNELS_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_KERNELS_KERNELS_FIXTURE_H_

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/amx.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/kernels.h"
#include "tests/testing/amx_emulated.h"

namespace descant::kernels {

class KernelsTest : public testing::TestWithParam<CpuIsa> {
 protected:
  void SetUp() override {
    // Without the hardware, AMX's instructions are emulated.
    if (GetParam() == CpuIsa::kAmx && DetectCpuIsa() == CpuIsa::kAvx512) {
      static const CpuKernels emulated = AmxTable(kEmulatedAmxKernels);
      kernels_ = &emulated;
      return;
    }
    if (GetParam() > DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    const auto kernels = KernelsFor(GetParam());
    if (!kernels.ok()) GTEST_SKIP() << kernels.status();
    kernels_ = *kernels;
  }

  std::vector<float> Floats(size_t count, float deviation = 1.0f) {
    std::normal_distribution<float> normal(0.0f, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::vector<bf16_t> Bf16s(size_t count, float deviation = 1.0f) {
    std::vector<bf16_t> values;
    for (const float value : Floats(count, deviation)) {
      values.push_back(ToBFloat16(value).bits);
    }
    return values;
  }

  void TearDown() override {
    if (kernels_ != nullptr && kernels_->end_region != nullptr) {
      kernels_->end_region();
    }
  }

  const CpuKernels* kernels_ = nullptr;
  std::mt19937 random_{20261123};
};

inline float Widen(bf16_t bits) { return ToFloat(BFloat16{bits}); }

// |a - b| within `ulps` bf16 steps of the larger, or `absolute`.
inline void ExpectClose(const std::vector<bf16_t>& expected,
                        const std::vector<bf16_t>& actual, float absolute,
                        const std::string& what) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const float e = Widen(expected[i]);
    const float a = Widen(actual[i]);
    ASSERT_LE(std::abs(e - a), std::abs(e) * 0.0079f + absolute)
        << what << " at " << i << ": " << e << " and " << a;
  }
}

}  // namespace descant::kernels

#endif  // DESCANT_TESTS_RUNTIME_KERNELS_KERNELS_FIXTURE_H_
