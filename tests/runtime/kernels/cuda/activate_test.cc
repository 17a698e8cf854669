// Emulated activations against doubles.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

constexpr uint16_t kUntouched = 0xffff;  // what a GuardedArray begins with
constexpr int32_t kRows = 3;

double Reference(CudaActivation activation, double x) {
  if (activation == CudaActivation::kSilu) return x / (1 + std::exp(-x));
  const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

template <typename Half>
class ActivateTest : public testing::Test {
 protected:
  static constexpr double kRounding =
      std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;

  // The arrays end with the last row's last column.
  void Expect(int32_t width, bool gated, CudaActivation activation) {
    const int32_t columns = gated ? 2 * width : width;
    const int64_t stride = columns + 8, out_stride = width + 16;
    std::uniform_real_distribution<float> uniform(-6, 6);
    GuardedArray<Half> in((kRows - 1) * stride + columns);
    for (Half& value : in) value = FromFloat<Half>(uniform(random_));
    GuardedArray<Half> out((kRows - 1) * out_stride + width);
    const absl::Status status = Activate<Half>({.gate_up = in.data(),
                                                .gate_up_stride = stride,
                                                .rows = kRows,
                                                .width = width,
                                                .gated = gated,
                                                .activation = activation,
                                                .out = out.data(),
                                                .out_stride = out_stride});
    ASSERT_TRUE(status.ok()) << status;
    for (int32_t row = 0; row < kRows; ++row) {
      const Half* const from = in.data() + row * stride;
      const Half* const to = out.data() + row * out_stride;
      for (int32_t i = 0; i < width; ++i) {
        double wanted = Reference(activation, ToFloat(from[i]));
        if (gated) wanted *= ToFloat(from[width + i]);
        ASSERT_NEAR(ToFloat(to[i]), wanted,
                    1.01 * kRounding * std::abs(wanted) + 2e-6)
            << row << ", " << i;
      }
      if (row + 1 == kRows) break;
      for (int64_t i = width; i < out_stride; ++i) {
        ASSERT_EQ(to[i].bits, kUntouched) << row << ", " << i;
      }
    }
  }

  std::mt19937 random_{3};
};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(ActivateTest, Halves);

// Within a block's columns, all of them, and more.
TYPED_TEST(ActivateTest, EveryActivation) {
  for (const int32_t width : {8, 72, 1024, 1032, 2816}) {
    for (const CudaActivation activation :
         {CudaActivation::kSilu, CudaActivation::kGeluTanh}) {
      for (const bool gated : {false, true}) {
        SCOPED_TRACE(
            testing::Message()
            << width << ", " << (gated ? "gated, " : "")
            << (activation == CudaActivation::kSilu ? "silu" : "gelu"));
        this->Expect(width, gated, activation);
      }
    }
  }
}

TYPED_TEST(ActivateTest, NoRows) {
  EXPECT_TRUE(Activate<TypeParam>({.width = 8}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
