// Emulated kernels that compute each element of a row by itself, against
// doubles.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

constexpr uint16_t kUntouched = 0xffff;  // what a GuardedArray begins with

template <typename Half>
class ElementwiseTest : public testing::Test {
 protected:
  // Relative error of a rounding.
  static constexpr double kRounding =
      std::is_same_v<Half, BFloat16> ? 0x1p-8 : 0x1p-11;

  GuardedArray<Half> Halves(size_t count, float range) {
    GuardedArray<Half> values(count);
    std::uniform_real_distribution<float> uniform(-range, range);
    for (Half& value : values) value = FromFloat<Half>(uniform(random_));
    return values;
  }
  std::mt19937 random_{12};
};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(ElementwiseTest, Halves);

double Activated(CudaActivation activation, double x) {
  if (activation == CudaActivation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x *
         (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TYPED_TEST(ElementwiseTest, ActivateWithAndWithoutAGate) {
  using Half = TypeParam;
  constexpr int32_t kRows = 3;
  for (const int32_t width : {8, 136, 1032, 2048}) {
    for (const CudaActivation activation :
         {CudaActivation::kSilu, CudaActivation::kGeluTanh}) {
      for (const bool gated : {false, true}) {
        const int64_t columns = gated ? 2 * width : width;
        const int64_t stride = columns + 8;
        const int64_t out_stride = width + 16;
        const GuardedArray<Half> in =
            this->Halves((kRows - 1) * stride + columns, 8);
        GuardedArray<Half> out((kRows - 1) * out_stride + width);
        ASSERT_TRUE(Activate<Half>({.gate_up = in.data(),
                                    .gate_up_stride = stride,
                                    .rows = kRows,
                                    .width = width,
                                    .gated = gated,
                                    .activation = activation,
                                    .out = out.data(),
                                    .out_stride = out_stride})
                        .ok());
        for (int64_t at = 0; at < static_cast<int64_t>(out.size()); ++at) {
          const int64_t row = at / out_stride;
          const int64_t column = at % out_stride;
          if (column >= width) {
            ASSERT_EQ(out[at].bits, kUntouched) << at;
            continue;
          }
          const int64_t from = row * stride + column;
          double wanted = Activated(activation, ToFloat(in[from]));
          if (gated) wanted *= ToFloat(in[from + width]);
          ASSERT_NEAR(ToFloat(out[at]), wanted,
                      std::abs(wanted) * 1.1 * this->kRounding + 1e-4)
              << at;
        }
      }
    }
  }
}

TYPED_TEST(ElementwiseTest, WidenLogitsCapsThem) {
  using Half = TypeParam;
  constexpr int32_t kRows = 2;
  for (const int32_t columns : {8, 120, 1024, 1032}) {
    for (const float cap : {0.0f, 30.0f}) {
      const int64_t stride = columns + 8;
      const int64_t out_stride = columns + 4;
      const GuardedArray<Half> in =
          this->Halves((kRows - 1) * stride + columns, 100);
      GuardedArray<float> out((kRows - 1) * out_stride + columns);
      ASSERT_TRUE(WidenLogits<Half>({.logits = in.data(),
                                     .logits_stride = stride,
                                     .rows = kRows,
                                     .columns = columns,
                                     .cap = cap,
                                     .out = out.data(),
                                     .out_stride = out_stride})
                      .ok());
      for (int64_t at = 0; at < static_cast<int64_t>(out.size()); ++at) {
        const int64_t row = at / out_stride;
        const int64_t column = at % out_stride;
        if (column >= columns) {
          ASSERT_TRUE(std::isnan(out[at])) << at;  // as it began
          continue;
        }
        const float logit = ToFloat(in[row * stride + column]);
        if (cap == 0) {
          ASSERT_EQ(out[at], logit) << at;
        } else {
          ASSERT_NEAR(out[at], cap * std::tanh(double{logit} / cap), 1e-4)
              << at;
        }
      }
    }
  }
}

TEST(ElementwiseShapesTest, NoRows) {
  EXPECT_TRUE(Activate<BFloat16>({.width = 8}).ok());
  EXPECT_TRUE(WidenLogits<BFloat16>({.columns = 8}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
