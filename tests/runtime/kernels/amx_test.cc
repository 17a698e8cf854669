// AMX without the hardware: the emulation refuses what the processor does, the
// kernels' sums have exactly the bits that the instructions' definition gives,
// the tiles are set up and given back as they should be, and a server doesn't
// trust kernels that compute something else.
#include "runtime/kernels/cpu/amx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "tests/testing/amx_emulated.h"

namespace descant::kernels {
namespace {

class AmxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (DetectCpuIsa() < CpuIsa::kAvx512) {
      GTEST_SKIP() << "the kernels around the tiles need AVX-512";
    }
  }
  void TearDown() override {
    if (DetectCpuIsa() >= CpuIsa::kAvx512) kEmulatedAmxKernels.release_tiles();
  }

  std::vector<bf16_t> Bf16s(size_t count, float deviation = 1.0f) {
    std::normal_distribution<float> normal(0.0f, deviation);
    std::vector<bf16_t> values(count);
    for (bf16_t& value : values) value = ToBFloat16(normal(random_)).bits;
    return values;
  }

  std::mt19937 random_{20261124};
};

// On the emulation, and on the hardware where it is.
class AmxKernelsTest : public AmxTest,
                       public testing::WithParamInterface<const AmxKernels*> {
 protected:
  void SetUp() override {
    AmxTest::SetUp();
    if (GetParam() == &kAmxKernels && DetectCpuIsa() < CpuIsa::kAmx) {
      GTEST_SKIP() << "not on this machine: amx";
    }
  }
  void TearDown() override {
    if (!IsSkipped()) amx_.release_tiles();
    AmxTest::TearDown();
  }

  const AmxKernels& amx_ = *GetParam();
};

TEST(AmxEmulationDeathTest, RefusesWhatTheProcessorRefuses) {
  if (DetectCpuIsa() < CpuIsa::kAvx512) {
    GTEST_SKIP() << "the emulation needs AVX-512";
  }
  const std::pair<TileMisuse, const char*> cases[] = {
      {TileMisuse::kPalette, "#GP: palette"},
      {TileMisuse::kReservedByte, "#GP: reserved byte"},
      {TileMisuse::kRows, "#GP: rows"},
      {TileMisuse::kBytes, "#GP: bytes"},
      {TileMisuse::kNinthTile, "#GP: no such tile"},
      {TileMisuse::kHalfEmpty, "#GP: half an empty tile"},
      {TileMisuse::kNotConfigured, "#UD: tiles are not configured"},
      {TileMisuse::kEmptyTile, "#UD: tile is not configured"},
      {TileMisuse::kSameOperands, "#UD: operands are not distinct"},
      {TileMisuse::kColumnsOfCAndB, "#UD: columns of C and B"},
      {TileMisuse::kRowsOfCAndA, "#UD: rows of C and A"},
      {TileMisuse::kInnerSizes, "#UD: columns of A and rows of B"},
  };
  for (const auto& [misuse, message] : cases) {
    EXPECT_DEATH(MisuseTiles(misuse), message);
  }
}

float Widen(bf16_t bits) { return ToFloat(BFloat16{bits}); }

// The definition, element by element: tiles of K in order; in each, even and
// odd elements in sums of their own.
float DefinedSum(const std::vector<int>& tiles, const bf16_t* a,
                 const bf16_t* b, float sum) {
  int pair = 0;
  for (const int pairs : tiles) {
    float halves[2] = {0, 0};
    for (const int end = pair + pairs; pair < end; ++pair) {
      for (int i = 0; i < 2; ++i) {
        halves[i] = std::fma(Widen(a[2 * pair + i]), Widen(b[64 * pair + i]),
                             halves[i]);
      }
    }
    sum += halves[0] + halves[1];
  }
  return sum;
}

// How K is cut into tiles is part of the numbers, so it is spelled out.
TEST_P(AmxKernelsTest, SumsHaveTheBitsOfTheDefinition) {
  const std::vector<std::vector<int>> cuts = {
      {1},          {8},          {15},        {16},
      {16, 1},      {12, 12},     {16, 16},    {10, 10, 10, 10},
      {16, 16, 16}, {11, 11, 11}, {16, 16, 5}, {15, 15, 15}};
  for (const std::vector<int>& tiles : cuts) {
    int pairs = 0;
    for (const int count : tiles) pairs += count;
    const int lda = 2 * pairs;
    const auto a = Bf16s(40 * lda);
    const auto b = Bf16s(64 * pairs);
    for (const int m : {1, 2, 5, 12, 16, 23, 40}) {
      for (const GemmFn gemm : {amx_.gemm, amx_.tile}) {
        std::vector<float> c(m * kColumnBlock, 0.75f);
        gemm(m, pairs, a.data(), lda, b.data(), 64, nullptr, c.data(),
             kColumnBlock, true);
        for (int i = 0; i < m * kColumnBlock; ++i) {
          ASSERT_EQ(DefinedSum(tiles, a.data() + i / 32 * lda,
                               b.data() + 2 * (i % 32), 0.75f),
                    c[i])
              << "pairs " << pairs << " m " << m << " at " << i;
        }
      }
    }
  }
}

// Subnormals are zeros, of values, products and sums, by tiles and by vectors,
// and the control word of the thread is what it was.
TEST_P(AmxKernelsTest, VectorsTreatSubnormalsAndSpecialValuesAsTilesDo) {
  const int pairs = 24, rows = 5;
  for (const float deviation : {1e-38f, 1e-19f, 1e-20f, 1e19f, 1e20f}) {
    const auto a = Bf16s(rows * 2 * pairs, deviation);
    const auto b = Bf16s(64 * pairs, deviation);
    std::vector<float> tiles(rows * kColumnBlock, -0.0f), few = tiles;
    amx_.gemm(rows, pairs, a.data(), 2 * pairs, b.data(), 64, nullptr,
              tiles.data(), kColumnBlock, true);
    amx_.tile(rows, pairs, a.data(), 2 * pairs, b.data(), 64, nullptr,
              few.data(), kColumnBlock, true);
    ASSERT_EQ(
        0, std::memcmp(tiles.data(), few.data(), tiles.size() * sizeof(float)))
        << "deviation " << deviation;
  }
  volatile float tiny = 1e-30f;
  EXPECT_NE(0.0f, tiny * 1e-10f);
}

TEST_P(AmxKernelsTest, ShrinkHasTheSameBitsByTilesAndByVectors) {
  for (const int pairs : {3, 8, 17, 24, 40, 288, 300}) {
    const auto a = Bf16s(40 * 2 * pairs);
    const auto b = Bf16s(32 * pairs);
    const std::vector<float> scale(16, 1.0f);
    std::vector<bf16_t> single(40 * 16);
    for (int row = 0; row < 40; ++row) {
      amx_.lora.shrink(1, pairs, a.data() + row * 2 * pairs, 2 * pairs,
                       b.data(), scale.data(), single.data() + row * 16, 16);
    }
    for (int m = 1; m <= 40; ++m) {
      std::vector<bf16_t> h(m * 16);
      amx_.lora.shrink(m, pairs, a.data(), 2 * pairs, b.data(), scale.data(),
                       h.data(), 16);
      ASSERT_TRUE(std::equal(h.begin(), h.end(), single.begin()))
          << "pairs " << pairs << " m " << m;
    }
  }
}

// Extremes: the largest sums of both signs.
TEST_P(AmxKernelsTest, Int8SumsAreExact) {
  for (const int k : {64, 128, 640}) {
    for (const int m : {1, 3, 16, 17, 31, 32, 33, 48, 64}) {
      const int lda = k + 32;
      std::vector<uint8_t> a(m * lda);
      for (uint8_t& x : a)
        x = static_cast<uint8_t>(random_() % 4 ? random_() : 255);
      std::vector<std::byte> block(Int8BlockBytes(k));
      float scale[32];
      int32_t offset[32] = {};
      int8_t* b = reinterpret_cast<int8_t*>(block.data() + kInt8HeaderBytes);
      for (int i = 0; i < 32 * k; ++i) {
        const int n = i / 4 % 32;
        b[i] = static_cast<int8_t>(
            n == 0   ? -127
            : n == 1 ? 127
                     : static_cast<int>(random_() % 255) - 127);
        offset[n] += 128 * b[i];
      }
      std::vector<float> a_scale(m);
      for (float& x : a_scale) x = 1e-3f * static_cast<float>(random_() % 99);
      for (float& x : scale) x = 1e-3f * static_cast<float>(random_() % 77);
      std::memcpy(block.data(), scale, sizeof(scale));
      std::memcpy(block.data() + sizeof(scale), offset, sizeof(offset));
      std::vector<float> c(m * 40);
      amx_.gemm_int8(m, k, a.data(), lda, a_scale.data(), block.data(), nullptr,
                     c.data(), 40);
      for (int i = 0; i < m * 32; ++i) {
        const int row = i / 32, n = i % 32;
        int64_t sum = -offset[n];
        for (int j = 0; j < k; ++j) {
          sum += a[row * lda + j] * b[j / 4 * 128 + 4 * n + j % 4];
        }
        ASSERT_EQ(static_cast<float>(sum) * (a_scale[row] * scale[n]),
                  c[row * 40 + n])
            << "k " << k << " m " << m << " at " << i;
      }
    }
  }
}

int releases = 0;

TEST_F(AmxTest, TilesAreConfiguredOnceForAShapeAndGivenBack) {
  const auto a = Bf16s(32 * 64);
  const auto b = Bf16s(64 * 32);
  std::vector<float> c(32 * 32);
  const auto multiply = [&](int m, int pairs) {
    kEmulatedAmxKernels.gemm(m, pairs, a.data(), 64, b.data(), 64, nullptr,
                             c.data(), 32, false);
  };
  const int64_t before = EmulatedConfigurations();
  for (int i = 0; i < 3; ++i) multiply(32, 32);
  multiply(16, 16);  // the same tiles
  EXPECT_EQ(before + 1, EmulatedConfigurations());
  multiply(32, 8);
  EXPECT_EQ(before + 2, EmulatedConfigurations());
  kEmulatedAmxKernels.tile(3, 32, a.data(), 64, b.data(), 64, nullptr, c.data(),
                           32, false);
  EXPECT_EQ(before + 2, EmulatedConfigurations());
  // Others take the tiles: theirs are released once, then ours set up anew.
  releases = 0;
  kEmulatedAmxKernels.lend_tiles([] { ++releases; });
  kEmulatedAmxKernels.lend_tiles([] { ++releases; });
  EXPECT_EQ(0, releases);
  multiply(32, 8);
  multiply(32, 8);
  EXPECT_EQ(1, releases);
  EXPECT_EQ(before + 3, EmulatedConfigurations());
  kEmulatedAmxKernels.release_tiles();
  EXPECT_EQ(1, releases);
  EXPECT_FALSE(EmulatedTilesInUse());
  kEmulatedAmxKernels.lend_tiles([] { ++releases; });
  kEmulatedAmxKernels.release_tiles();
  kEmulatedAmxKernels.release_tiles();
  EXPECT_EQ(2, releases);
}

TEST_P(AmxKernelsTest, CheckAcceptsTheKernels) {
  EXPECT_EQ(absl::OkStatus(), CheckAmx(amx_));
  EXPECT_FALSE(EmulatedTilesInUse());
}

// Shapes of models: the same bits from the hardware and from the emulation.
TEST_P(AmxKernelsTest, HasTheBitsOfTheEmulation) {
  for (const int pairs : {8, 32, 40, 288}) {
    const int lda = 2 * pairs;
    const auto a = Bf16s(48 * lda);
    const auto b = Bf16s(64 * pairs);
    const std::vector<float> scale(16, 0.5f);
    for (const int m : {1, 3, 16, 29, 48}) {
      std::vector<float> expected(m * 32), actual(m * 32);
      std::vector<bf16_t> expected_h(m * 16), actual_h(m * 16);
      const auto run = [&](const AmxKernels& amx, std::vector<float>* c,
                           std::vector<bf16_t>* h) {
        amx.gemm(m, pairs, a.data(), lda, b.data(), 64, b.data(), c->data(), 32,
                 false);
        amx.tile(m, pairs, a.data(), lda, b.data(), 64, nullptr, c->data(), 32,
                 true);
        amx.lora.shrink(m, pairs, a.data(), lda, b.data(), scale.data(),
                        h->data(), 16);
      };
      run(kEmulatedAmxKernels, &expected, &expected_h);
      run(amx_, &actual, &actual_h);
      ASSERT_EQ(expected, actual) << "pairs " << pairs << " m " << m;
      ASSERT_EQ(expected_h, actual_h) << "pairs " << pairs << " m " << m;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AmxKernelsTest,
                         testing::Values(&kEmulatedAmxKernels, &kAmxKernels),
                         [](const auto& info) {
                           return info.param == &kAmxKernels ? "hardware"
                                                             : "emulated";
                         });

// Kernels that are wrong in one thing each.
void WrongGemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
               const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
               int64_t ldc, bool accumulate) {
  kEmulatedAmxKernels.gemm(m, k_pairs, a, lda, b, ldb, next, c, ldc,
                           accumulate);
  if (m > 16) c[16 * ldc + 31] += 0.01f;
}

// A unit in the last place, such as other orders of sums give.
void RoundedGemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                 const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                 int64_t ldc, bool accumulate) {
  kEmulatedAmxKernels.gemm(m, k_pairs, a, lda, b, ldb, next, c, ldc,
                           accumulate);
  c[5] = std::nextafter(c[5], 100.0f);
}

void WrongShrink(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                 const void* b, const float* scale, bf16_t* h, int64_t ldh) {
  kEmulatedAmxKernels.lora.shrink(m, k_pairs, a, lda, b, scale, h, ldh);
  if (m == 19) h[18 * ldh] ^= 0x8001;
}

void WrongAttention(const AttentionItem& item, void* workspace) {
  kEmulatedAmxKernels.attention(item, workspace);
  item.out[item.head_dim] = 0;
}

TEST_F(AmxTest, CheckFindsWrongKernels) {
  AmxKernels wrong = kEmulatedAmxKernels;
  wrong.gemm = &WrongGemm;
  EXPECT_EQ("AMX product of 19 rows and 1 pairs gives wrong results",
            CheckAmx(wrong).message());
  wrong.gemm = &RoundedGemm;
  EXPECT_EQ("AMX product by rows of 1 rows and 1 pairs gives wrong results",
            CheckAmx(wrong).message());
  wrong = kEmulatedAmxKernels;
  wrong.lora.shrink = &WrongShrink;
  EXPECT_FALSE(CheckAmx(wrong).ok());
  wrong = kEmulatedAmxKernels;
  wrong.attention = &WrongAttention;
  EXPECT_FALSE(CheckAmx(wrong).ok());
}

void RefusedShrink(int32_t, int32_t, const bf16_t*, int64_t, const void*,
                   const float*, bf16_t*, int64_t) {
  __builtin_trap();
}

TEST_F(AmxTest, ACheckThatDiesEndsOnlyItself) {
  EXPECT_EQ(absl::OkStatus(), CheckAmxApart(kEmulatedAmxKernels));
  AmxKernels wrong = kEmulatedAmxKernels;
  wrong.gemm = &WrongGemm;
  EXPECT_EQ("AMX product of 19 rows and 1 pairs gives wrong results",
            CheckAmxApart(wrong).message());
  wrong = kEmulatedAmxKernels;
  wrong.lora.shrink = &RefusedShrink;
  EXPECT_EQ("the check of AMX kernels ended by signal 4",
            CheckAmxApart(wrong).message());
}

TEST(ChooseCpuIsaTest, FallsBackWhereAmxIsWrong) {
  int checks = 0;
  const auto good = [&] {
    ++checks;
    return absl::OkStatus();
  };
  const auto bad = [] { return absl::InternalError("wrong"); };
  EXPECT_EQ(CpuIsa::kAmx, *ChooseCpuIsaFrom(CpuIsa::kAmx, nullptr, good));
  EXPECT_EQ(CpuIsa::kAmx, *ChooseCpuIsaFrom(CpuIsa::kAmx, "amx", good));
  EXPECT_EQ(2, checks);
  EXPECT_EQ(CpuIsa::kAvx512, *ChooseCpuIsaFrom(CpuIsa::kAmx, "", bad));
  EXPECT_EQ(absl::StatusCode::kInternal,
            ChooseCpuIsaFrom(CpuIsa::kAmx, "amx", bad).status().code());
  // Nothing is checked that isn't used.
  EXPECT_EQ(CpuIsa::kAvx2, *ChooseCpuIsaFrom(CpuIsa::kAmx, "avx2", bad));
  EXPECT_EQ(CpuIsa::kAvx512, *ChooseCpuIsaFrom(CpuIsa::kAvx512, nullptr, bad));
  const absl::Status missing =
      ChooseCpuIsaFrom(CpuIsa::kAvx512, "amx", bad).status();
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, missing.code());
  EXPECT_EQ("DESCANT_CPU_ISA=amx: this machine has only avx512",
            missing.message());
}

}  // namespace
}  // namespace descant::kernels
