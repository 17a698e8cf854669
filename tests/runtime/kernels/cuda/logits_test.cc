// The emulated kernel that gives the sampler its logits, against doubles.
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

template <typename Half>
class LogitsTest : public testing::Test {
 protected:
  GuardedArray<Half> Halves(size_t count, float range) {
    GuardedArray<Half> values(count);
    std::uniform_real_distribution<float> uniform(-range, range);
    for (Half& value : values) value = FromFloat<Half>(uniform(random_));
    return values;
  }
  std::mt19937 random_{12};
};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(LogitsTest, Halves);

TYPED_TEST(LogitsTest, WidenLogitsCapsThem) {
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

TEST(LogitsShapesTest, NoRows) {
  EXPECT_TRUE(WidenLogits<BFloat16>({.columns = 8}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
