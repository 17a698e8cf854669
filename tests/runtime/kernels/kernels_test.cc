// Every variant of the kernels that this machine runs, against the scalar
// oracle on ragged shapes, and against itself bit for bit over row counts.
#include "runtime/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/packing.h"
#include "tests/runtime/kernels/kernels_fixture.h"

namespace descant::kernels {
namespace {

constexpr int kMaxRows = 40;

TEST_P(KernelsTest, GemmMatchesTheOracle) {
  for (const int k : {1, 2, 7, 16, 33, 64, 127, 576}) {
    const int pairs = (k + 1) / 2;
    const int lda = 2 * pairs + 6;
    const auto a = Bf16s(kMaxRows * lda);
    const auto w = Bf16s(kColumnBlock * k);
    std::vector<bf16_t> b(PackedSize(kColumnBlock, k, kColumnBlock));
    PackBlock(w.data(), k, kColumnBlock, k, kColumnBlock, b.data());
    for (int m = 1; m <= kMaxRows; ++m) {
      const GemmFn gemm = kernels_->gemm;
      for (const bool accumulate : {false, true}) {
        if (accumulate && kernels_->gemm_is_brgemm) continue;
        const int ldc = kColumnBlock + 3;
        auto expected = Floats(m * ldc);
        auto actual = expected;
        kScalarKernels.gemm(m, pairs, a.data(), lda, b.data(), 64, nullptr,
                            expected.data(), ldc, accumulate);
        gemm(m, pairs, a.data(), lda, b.data(), 64, nullptr, actual.data(), ldc,
             accumulate);
        for (int i = 0; i < m * ldc; ++i) {
          ASSERT_NEAR(expected[i], actual[i], 2e-6f * k + 1e-5f)
              << "m " << m << " k " << k << " at " << i;
        }
      }
    }
  }
}

// The determinism rule: a row alone has the bits it has among others.
TEST_P(KernelsTest, GemmBitsDoNotDependOnRows) {
  for (const int pairs : {4, 21, 288}) {
    const int lda = 2 * pairs;
    const auto a = Bf16s(kMaxRows * lda);
    const auto b = Bf16s(64 * pairs);
    const GemmFn gemm = kernels_->gemm;
    std::vector<float> alone(kMaxRows * kColumnBlock);
    for (int row = 0; row < kMaxRows; ++row) {
      gemm(1, pairs, a.data() + row * lda, lda, b.data(), 64, nullptr,
           alone.data() + row * kColumnBlock, kColumnBlock, false);
    }
    for (int m = 1; m <= kMaxRows; ++m) {
      for (int first = 0; first + m <= kMaxRows; first += 7) {
        std::vector<float> c(m * kColumnBlock);
        gemm(m, pairs, a.data() + first * lda, lda, b.data(), 64, nullptr,
             c.data(), kColumnBlock, false);
        ASSERT_EQ(0, std::memcmp(c.data(), alone.data() + first * kColumnBlock,
                                 c.size() * sizeof(float)))
            << "rows " << first << " to " << first + m;
      }
    }
  }
}

TEST_P(KernelsTest, ShrinkMatchesTheOracleForAnyRows) {
  for (const int k : {3, 64, 130, 576}) {
    const int pairs = (k + 1) / 2;
    const int lda = 2 * pairs;
    const auto a = Bf16s(kMaxRows * lda);
    const auto w = Bf16s(kRankBlock * k);
    const auto scale = Floats(kRankBlock);
    std::vector<bf16_t> b(PackedSize(kRankBlock, k, kRankBlock));
    PackBlock(w.data(), k, kRankBlock, k, kRankBlock, b.data());
    std::vector<bf16_t> expected(kMaxRows * kRankBlock);
    kScalarKernels.lora->shrink(kMaxRows, pairs, a.data(), lda, b.data(),
                                scale.data(), expected.data(), kRankBlock);
    std::vector<bf16_t> all(expected.size());
    kernels_->lora->shrink(kMaxRows, pairs, a.data(), lda, b.data(),
                           scale.data(), all.data(), kRankBlock);
    ExpectClose(expected, all, 1e-4f * k, "shrink");
    for (int m = 1; m <= kMaxRows; ++m) {
      std::vector<bf16_t> some(m * kRankBlock);
      const int first = kMaxRows - m;
      kernels_->lora->shrink(m, pairs, a.data() + first * lda, lda, b.data(),
                             scale.data(), some.data(), kRankBlock);
      ASSERT_TRUE(
          std::equal(some.begin(), some.end(), all.begin() + first * 16));
    }
  }
}

// Segments of one row and of many, of several ranks, with rows of none between
// them, in whole and in pieces: the oracle's sums, and a row's bits alone.
TEST_P(KernelsTest, ExpandMatchesTheOracleForAnyRows) {
  constexpr int kBlocks = 3;
  const int ranks[] = {2, 16, 6, 32, 64};
  const int begins[] = {0, 1, 2, 20, 21};
  const int ends[] = {1, 2, 19, 21, kMaxRows};
  const int ldh = 64;
  const int ldc = kColumnBlock + 3;
  const auto h = Bf16s(kMaxRows * ldh);
  std::vector<std::vector<bf16_t>> b;
  std::vector<ExpandSegment> segments;
  for (int i = 0; i < 5; ++i) {
    b.push_back(Bf16s(kBlocks * ranks[i] * kColumnBlock));
    segments.push_back({h.data() + begins[i] * ldh, b.back().data(), ldh,
                        ranks[i] / 2, begins[i], ends[i]});
  }
  const int count = static_cast<int>(segments.size());
  const auto before = Floats(kMaxRows * ldc);
  for (int block = 0; block < kBlocks; ++block) {
    auto expected = before;
    kScalarKernels.lora->expand(segments.data(), count, block, 0, kMaxRows,
                                expected.data(), ldc);
    auto all = before;
    kernels_->lora->expand(segments.data(), count, block, 0, kMaxRows,
                           all.data(), ldc);
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_NEAR(expected[i], all[i], 2e-4f) << "at " << i;
    }
    for (int c = 0; c < kColumnBlock; ++c) {
      ASSERT_EQ(all[19 * ldc + c], before[19 * ldc + c]) << "no segment";
    }
    EXPECT_NE(all, before);
    for (int rows : {1, 5, 13}) {
      auto pieces = before;
      for (int row = 0; row < kMaxRows; row += rows) {
        kernels_->lora->expand(segments.data(), count, block, row,
                               std::min(row + rows, kMaxRows),
                               pieces.data() + row * ldc, ldc);
      }
      ASSERT_EQ(
          0, std::memcmp(pieces.data(), all.data(), all.size() * sizeof(float)))
          << rows << " rows a call";
    }
  }
}

TEST_P(KernelsTest, RowOperationsMatchTheOracle) {
  for (const int n : {1, 16, 31, 64, 100, 576}) {
    const int padded = static_cast<int>(RoundUp(n, 32));
    auto x = Floats(padded);
    auto weight = Floats(padded);
    std::fill(x.begin() + n, x.end(), 0.0f);
    std::fill(weight.begin() + n, weight.end(), 0.0f);
    std::vector<bf16_t> expected(padded), actual(padded);
    kScalarKernels.rms_norm(x.data(), weight.data(), nullptr, n, padded, 1e-5f,
                            expected.data());
    kernels_->rms_norm(x.data(), weight.data(), nullptr, n, padded, 1e-5f,
                       actual.data());
    ExpectClose(expected, actual, 0, "rms_norm");
    kScalarKernels.to_bf16(x.data(), n, expected.data());
    kernels_->to_bf16(x.data(), n, actual.data());
    EXPECT_EQ(expected, actual);
  }
  for (const int half : {1, 8, 16, 24, 32, 64}) {
    const auto x = Floats(2 * half);
    const auto cos = Floats(half);
    const auto sin = Floats(half);
    std::vector<bf16_t> expected(2 * half), actual(2 * half);
    kScalarKernels.rope(x.data(), cos.data(), sin.data(), half,
                        expected.data());
    kernels_->rope(x.data(), cos.data(), sin.data(), half, actual.data());
    ExpectClose(expected, actual, 1e-6f, "rope");
  }
  for (const float deviation : {1.0f, 30.0f, 200.0f}) {
    const int rows = 5;
    const auto gate = Floats(rows * 32, deviation);
    const auto up = Floats(rows * 32);
    std::vector<bf16_t> expected(rows * 40), actual(rows * 40);
    kScalarKernels.silu_mul(rows, gate.data(), up.data(), expected.data(), 40);
    kernels_->silu_mul(rows, gate.data(), up.data(), actual.data(), 40);
    ExpectClose(expected, actual, 1e-6f, "silu_mul");
    auto sum = Floats(rows * 50);
    auto oracle = sum;
    kScalarKernels.residual_add(rows, gate.data(), oracle.data(), 50);
    kernels_->residual_add(rows, gate.data(), sum.data(), 50);
    EXPECT_EQ(oracle, sum);
  }
}

TEST_P(KernelsTest, NanStaysNan) {
  std::vector<float> x(32, 1.0f), weight(32, 1.0f), up(32, 1.0f);
  x[3] = std::nanf("");
  std::vector<bf16_t> out(32);
  kernels_->to_bf16(x.data(), 32, out.data());
  EXPECT_TRUE(std::isnan(Widen(out[3])));
  EXPECT_EQ(1.0f, Widen(out[4]));
  kernels_->silu_mul(1, x.data(), up.data(), out.data(), 32);
  EXPECT_TRUE(std::isnan(Widen(out[3])));
  EXPECT_FALSE(std::isnan(Widen(out[4])));
  for (const NormFn norm : {kernels_->rms_norm, kernels_->layer_norm}) {
    norm(x.data(), weight.data(), up.data(), 32, 32, 1e-5f, out.data());
    EXPECT_TRUE(std::isnan(Widen(out[31])));
  }
  for (const ActivateMulFn f : {kernels_->silu_mul, kernels_->gelu_mul}) {
    f(1, x.data(), up.data(), out.data(), 32);
    EXPECT_TRUE(std::isnan(Widen(out[3])));
    EXPECT_FALSE(std::isnan(Widen(out[4])));
  }
  for (const ActivateFn f : {kernels_->silu, kernels_->gelu}) {
    f(1, x.data(), out.data(), 32);
    EXPECT_TRUE(std::isnan(Widen(out[3])));
    EXPECT_FALSE(std::isnan(Widen(out[4])));
  }
  kernels_->soft_cap(1, 30.0f, x.data(), 32);
  EXPECT_TRUE(std::isnan(x[3]));
  EXPECT_NEAR(30 * std::tanh(1 / 30.0), x[4], 1e-5);
}

void ExpectNear(const std::vector<float>& expected,
                const std::vector<float>& actual, float relative,
                float absolute, const std::string& what) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(expected[i], actual[i],
                std::abs(expected[i]) * relative + absolute)
        << what << " at " << i;
  }
}

// The rows of a LayerNorm may have a mean far from 0.
TEST_P(KernelsTest, OtherNormsMatchTheOracle) {
  for (const int n : {1, 2, 16, 31, 33, 48, 100, 768}) {
    for (const float mean : {0.0f, 20.0f}) {
      const int padded = static_cast<int>(RoundUp(n, 32));
      auto x = Floats(padded);
      for (float& value : x) value += mean;
      auto weight = Floats(padded);
      auto bias = Floats(padded);
      for (auto* values : {&x, &weight, &bias}) {
        std::fill(values->begin() + n, values->end(), 0.0f);
      }
      std::vector<bf16_t> expected(padded), actual(padded, 0x7fc0);
      kScalarKernels.layer_norm(x.data(), weight.data(), bias.data(), n, padded,
                                1e-5f, expected.data());
      kernels_->layer_norm(x.data(), weight.data(), bias.data(), n, padded,
                           1e-5f, actual.data());
      ExpectClose(expected, actual, 2e-4f, "layer_norm");
      auto sum = bias, oracle = bias;
      kScalarKernels.add_rms_norm(x.data(), weight.data(), n, padded, 1e-6f,
                                  oracle.data());
      kernels_->add_rms_norm(x.data(), weight.data(), n, padded, 1e-6f,
                             sum.data());
      ExpectNear(oracle, sum, 1e-6f, 2e-6f, "add_rms_norm");
      // What lies behind a head is other heads.
      std::vector<float> head(padded), head_oracle(padded);
      std::fill(x.begin() + n, x.end(), std::nanf(""));
      kScalarKernels.head_norm(x.data(), weight.data(), n, 1e-6f,
                               head_oracle.data());
      kernels_->head_norm(x.data(), weight.data(), n, 1e-6f, head.data());
      head.resize(n);
      head_oracle.resize(n);
      ExpectNear(head_oracle, head, 2e-6f, 0, "head_norm");
    }
  }
}

TEST_P(KernelsTest, TileEpiloguesMatchTheOracle) {
  for (const float deviation : {0.01f, 1.0f, 30.0f, 1e4f, 1e14f}) {
    const int rows = 7, ld = 48;
    const auto gate = Floats(rows * 32, deviation);
    const auto up = Floats(rows * 32);
    std::vector<bf16_t> expected(rows * ld), actual(rows * ld);
    kScalarKernels.gelu_mul(rows, gate.data(), up.data(), expected.data(), ld);
    kernels_->gelu_mul(rows, gate.data(), up.data(), actual.data(), ld);
    ExpectClose(expected, actual, 1e-6f, "gelu_mul");
    kScalarKernels.gelu(rows, gate.data(), expected.data(), ld);
    kernels_->gelu(rows, gate.data(), actual.data(), ld);
    ExpectClose(expected, actual, 1e-6f, "gelu");
    kScalarKernels.silu(rows, gate.data(), expected.data(), ld);
    kernels_->silu(rows, gate.data(), actual.data(), ld);
    ExpectClose(expected, actual, 1e-6f, "silu");
    for (const float cap : {30.0f, 50.0f}) {
      auto c = Floats(rows * ld, deviation);
      auto oracle = c;
      kScalarKernels.soft_cap(rows, cap, oracle.data(), ld);
      kernels_->soft_cap(rows, cap, c.data(), ld);
      ExpectNear(oracle, c, 0, 4e-7f * cap, "soft_cap");
    }
    auto c = Floats(rows * ld, deviation);
    auto oracle = c;
    kScalarKernels.bias_add(rows, up.data(), oracle.data(), ld);
    kernels_->bias_add(rows, up.data(), c.data(), ld);
    EXPECT_EQ(oracle, c);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, KernelsTest,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(CpuIsaName(info.param));
                         });

TEST(CpuFeaturesTest, ForcesALowerSetAndRefusesOthers) {
  setenv("DESCANT_CPU_ISA", "scalar", 1);
  EXPECT_EQ(CpuIsa::kScalar, *ChooseCpuIsa());
  setenv("DESCANT_CPU_ISA", "sse9", 1);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, ChooseCpuIsa().status().code());
  if (DetectCpuIsa() < CpuIsa::kAmx) {
    setenv("DESCANT_CPU_ISA", "amx", 1);
    EXPECT_FALSE(ChooseCpuIsa().ok());
  }
  unsetenv("DESCANT_CPU_ISA");
  EXPECT_LE(*ChooseCpuIsa(), DetectCpuIsa());
}

}  // namespace
}  // namespace descant::kernels
