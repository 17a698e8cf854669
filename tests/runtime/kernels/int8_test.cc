// Kernels of int8 weights on every instruction set that this machine has: equal
// bits to the oracle's where sums are exact, and to themselves over row counts.
#include "runtime/kernels/int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/packing.h"

namespace descant::kernels {
namespace {

constexpr int32_t kMaxRows = 70;

class Int8Test : public testing::TestWithParam<CpuIsa> {
 protected:
  void SetUp() override {
    if (GetParam() > DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    const auto kernels = KernelsFor(GetParam());
    if (!kernels.ok()) GTEST_SKIP() << kernels.status();
    kernels_ = *kernels;
    int8_ = kernels_->int8;
    gemms_ = {int8_.gemm};
    // Whatever other GEMM the machine has too.
    if (GetParam() == CpuIsa::kAvx2) gemms_.push_back(&GemmInt8Avx2);
  }

  std::vector<uint8_t> Bytes(size_t count) {
    std::vector<uint8_t> values(count);
    for (uint8_t& value : values) {
      value = static_cast<uint8_t>(1 + random_() % 255);
    }
    return values;
  }

  std::vector<float> Floats(size_t count, float deviation = 1.0f) {
    std::normal_distribution<float> normal(0.0f, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  // `extreme`: the values whose sums are largest.
  std::vector<std::byte> Block(int64_t k, bool extreme) {
    std::vector<std::byte> block(Int8BlockBytes(k));
    const auto scales = Floats(kColumnBlock);
    std::memcpy(block.data(), scales.data(), 4 * kColumnBlock);
    int32_t sums[kColumnBlock] = {};
    int8_t* values = reinterpret_cast<int8_t*>(block.data() + kInt8HeaderBytes);
    for (int64_t i = 0; i < k; ++i) {
      for (int32_t n = 0; n < kColumnBlock; ++n) {
        const int32_t value = extreme
                                  ? (n % 2 == 0 ? 127 : -127)
                                  : static_cast<int32_t>(random_() % 255) - 127;
        values[i / 4 * 4 * kColumnBlock + 4 * n + i % 4] =
            static_cast<int8_t>(value);
        sums[n] += 128 * value;
      }
    }
    std::memcpy(block.data() + 4 * kColumnBlock, sums, sizeof sums);
    return block;
  }

  const CpuKernels* kernels_ = nullptr;
  Int8Kernels int8_ = {};
  std::vector<GemmInt8Fn> gemms_;
  std::mt19937 random_{20261124};
};

TEST_P(Int8Test, GemmHasTheBitsOfTheOracle) {
  for (const int32_t k : {1, 37, 64, 100, 576, 1537}) {
    const int32_t depth = static_cast<int32_t>(RoundUp(k, kInt8Depth));
    const int64_t lda = depth + 64;
    const auto block = Block(k, false);
    const auto next = Block(k, false);
    // The padding too is not zero.
    const auto a = Bytes(kMaxRows * lda);
    const auto scales = Floats(kMaxRows);
    for (const int32_t m : {1, 2, 3, 5, 6, 7, 11, 12, 13, 24, 25, 37, 70}) {
      const int64_t ldc = kColumnBlock + 5;
      std::vector<float> expected(m * ldc, 7.0f);
      kScalarKernels.int8.gemm(m, depth, a.data(), lda, scales.data(),
                               block.data(), nullptr, expected.data(), ldc);
      for (const GemmInt8Fn gemm : gemms_) {
        for (const std::byte* after :
             {static_cast<const std::byte*>(nullptr), next.data()}) {
          std::vector<float> actual(m * ldc, 7.0f);
          gemm(m, depth, a.data(), lda, scales.data(), block.data(), after,
               actual.data(), ldc);
          ASSERT_EQ(expected, actual) << "m " << m << " k " << k;
        }
      }
    }
  }
}

// Where 16-bit intermediate sums would saturate, and near the end of int32.
TEST_P(Int8Test, GemmDoesNotSaturate) {
  for (const int32_t k : {64, kInt8MaxDepth}) {
    const auto block = Block(k, true);
    const std::vector<uint8_t> a(3 * k, 255);
    const float scales[] = {1.0f, 0.5f, 0.001f};
    std::vector<float> expected(3 * kColumnBlock);
    kScalarKernels.int8.gemm(3, k, a.data(), k, scales, block.data(), nullptr,
                             expected.data(), kColumnBlock);
    float scale;
    std::memcpy(&scale, block.data(), sizeof scale);
    ASSERT_EQ(static_cast<float>(127 * 127 * int64_t{k}) * scale, expected[0]);
    for (const GemmInt8Fn gemm : gemms_) {
      std::vector<float> actual(3 * kColumnBlock);
      gemm(3, k, a.data(), k, scales, block.data(), nullptr, actual.data(),
           kColumnBlock);
      ASSERT_EQ(expected, actual) << "k " << k;
    }
  }
}

TEST_P(Int8Test, QuantiseHasTheBitsOfTheOracle) {
  for (const int32_t n : {32, 64, 96, 576, 1536}) {
    for (const float deviation : {1.0f, 1e-12f, 1e12f, 1e-33f}) {
      std::vector<bf16_t> x;
      for (const float value : Floats(n, deviation)) {
        x.push_back(ToBFloat16(value).bits);
      }
      std::vector<uint8_t> expected(n), actual(n);
      float expected_scale, scale;
      kScalarKernels.int8.quantise(x.data(), n, expected.data(),
                                   &expected_scale);
      int8_.quantise(x.data(), n, actual.data(), &scale);
      EXPECT_EQ(expected_scale, scale);
      ASSERT_EQ(expected, actual);
      for (int32_t i = 0; i < n; ++i) {
        const float value = ToFloat(BFloat16{x[i]});
        ASSERT_LE(std::abs(scale * (actual[i] - 128) - value),
                  0.5001f * scale + 1e-30f);
      }
    }
  }
}

// A fault must not become a number.
TEST_P(Int8Test, WhatIsNotFiniteStaysSo) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const int32_t at : {0, 17, 63}) {
      std::vector<float> x = Floats(64);
      x[at] = bad;
      std::vector<bf16_t> bits;
      for (const float value : x) bits.push_back(ToBFloat16(value).bits);
      std::vector<uint8_t> q(64);
      float scale = 1;
      int8_.quantise(bits.data(), 64, q.data(), &scale);
      EXPECT_FALSE(std::isfinite(scale));
      const std::vector<float> weight(64, 1.0f), bias(64);
      for (const NormQuantiseFn norm : {int8_.rms_norm, int8_.layer_norm}) {
        scale = 1;
        norm(x.data(), weight.data(), bias.data(), 64, 64, 1e-5f, nullptr,
             q.data(), &scale);
        EXPECT_FALSE(std::isfinite(scale));
      }
      const auto block = Block(64, false);
      float c[kColumnBlock];
      int8_.gemm(1, 64, q.data(), 64, &scale, block.data(), nullptr, c,
                 kColumnBlock);
      for (const float value : c) EXPECT_FALSE(std::isfinite(value));
    }
  }
}

TEST_P(Int8Test, NormsMatchTheOracleAndTheirBf16) {
  const struct {
    NormQuantiseFn both, oracle;
    NormFn alone;
  } norms[] = {
      {int8_.rms_norm, kScalarKernels.int8.rms_norm, kernels_->rms_norm},
      {int8_.layer_norm, kScalarKernels.int8.layer_norm, kernels_->layer_norm}};
  for (const auto& norm : norms) {
    for (const int32_t n : {5, 32, 100, 576}) {
      const int32_t padded = static_cast<int32_t>(RoundUp(n, 32));
      std::vector<float> x = Floats(padded, 3.0f);
      std::vector<float> weight = Floats(padded);
      std::vector<float> bias = Floats(padded);
      for (int32_t i = n; i < padded; ++i) x[i] = weight[i] = bias[i] = 0;
      std::vector<uint8_t> expected(padded), q(padded), without(padded);
      std::vector<bf16_t> out(padded), alone(padded);
      float expected_scale, scale, without_scale;
      norm.oracle(x.data(), weight.data(), bias.data(), n, padded, 1e-5f,
                  nullptr, expected.data(), &expected_scale);
      norm.both(x.data(), weight.data(), bias.data(), n, padded, 1e-5f,
                out.data(), q.data(), &scale);
      norm.both(x.data(), weight.data(), bias.data(), n, padded, 1e-5f, nullptr,
                without.data(), &without_scale);
      norm.alone(x.data(), weight.data(), bias.data(), n, padded, 1e-5f,
                 alone.data());
      EXPECT_EQ(alone, out);
      // Whether the step has adapters changes no bit.
      EXPECT_EQ(q, without);
      EXPECT_EQ(scale, without_scale);
      EXPECT_NEAR(expected_scale, scale, 1e-5f * expected_scale);
      for (int32_t i = 0; i < padded; ++i) {
        ASSERT_NEAR(expected[i], q[i], 1) << i;
        ASSERT_TRUE(i < n || q[i] == 128) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Int8Test,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(CpuIsaName(info.param));
                         });

}  // namespace
}  // namespace descant::kernels
