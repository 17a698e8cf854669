// Every variant of the kernels that this machine runs, against the scalar
// oracle on ragged shapes, and against itself bit for bit over row counts.
#include "runtime/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/amx.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/packing.h"
#include "tests/testing/amx_emulated.h"

namespace descant::kernels {
namespace {

constexpr int kMaxRows = 40;

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

float Widen(bf16_t bits) { return ToFloat(BFloat16{bits}); }

// |a - b| within `ulps` bf16 steps of the larger, or `absolute`.
void ExpectClose(const std::vector<bf16_t>& expected,
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
    kScalarKernels.shrink(kMaxRows, pairs, a.data(), lda, b.data(),
                          scale.data(), expected.data(), kRankBlock);
    std::vector<bf16_t> all(expected.size());
    kernels_->shrink(kMaxRows, pairs, a.data(), lda, b.data(), scale.data(),
                     all.data(), kRankBlock);
    ExpectClose(expected, all, 1e-4f * k, "shrink");
    for (int m = 1; m <= kMaxRows; ++m) {
      std::vector<bf16_t> some(m * kRankBlock);
      const int first = kMaxRows - m;
      kernels_->shrink(m, pairs, a.data() + first * lda, lda, b.data(),
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
    kScalarKernels.expand(segments.data(), count, block, 0, kMaxRows,
                          expected.data(), ldc);
    auto all = before;
    kernels_->expand(segments.data(), count, block, 0, kMaxRows, all.data(),
                     ldc);
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
        kernels_->expand(segments.data(), count, block, row,
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

// A cache of scattered blocks with one KV head, and the queries upon it.
struct AttentionCase {
  int group, head_dim, length;
  int window = 0;
  float score_cap = 0;
  int padded_dim = 0;
  std::vector<int32_t> blocks;
  std::vector<bf16_t> kv;
  std::vector<bf16_t> q;  // [length][group * head_dim]

  AttentionItem Item(int first, int tokens, bf16_t* out) const {
    AttentionItem item;
    const int width = group * head_dim;
    item.q = q.data() + first * width;
    item.q_stride = width;
    item.tokens = tokens;
    item.group = group;
    item.head_dim = head_dim;
    item.first_position = first;
    item.window = window;
    item.kv = kv.data();
    item.block_stride = kKvBlock * (head_dim + padded_dim);
    item.v_offset = kKvBlock * head_dim;
    item.padded_dim = padded_dim;
    item.blocks = blocks.data();
    item.next = nullptr;
    item.next_position = 0;
    item.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    item.score_cap = score_cap;
    item.out = out + first * width;
    item.out_stride = width;
    return item;
  }

  // Outputs of all tokens, `chunk` at a time.
  std::vector<bf16_t> Attend(const CpuKernels& kernels, int chunk) const {
    std::vector<bf16_t> out(q.size());
    std::vector<float> workspace(
        AttentionWorkspaceBytes(group, head_dim, padded_dim) / 4);
    chunk = std::min(chunk, AttentionRows(group) / group);
    for (int first = 0; first < length; first += chunk) {
      AttentionItem item =
          Item(first, std::min(chunk, length - first), out.data());
      AttentionItem next;
      if (const int begin = first + chunk; begin < length) {
        next = Item(begin, std::min(chunk, length - begin), out.data());
        item.next = &next;
        item.next_position = window > 0 ? std::max(begin - window + 1, 0) : 0;
      }
      kernels.attention(item, workspace.data());
    }
    return out;
  }
};

// Scattered blocks; block 1 belongs to nobody.
AttentionCase MakeAttention(int group, int head_dim, int length) {
  AttentionCase test;
  test.group = group;
  test.head_dim = head_dim;
  test.length = length;
  test.padded_dim = static_cast<int>(RoundUp(head_dim, 32));
  const int count = (length + kKvBlock - 1) / kKvBlock;
  for (int i = 0; i < count; ++i) test.blocks.push_back(2 * count - 2 * i);
  return test;
}

TEST_P(KernelsTest, AttentionMatchesTheOracleAndIgnoresChunks) {
  for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 16, 60}) {
    for (const int head_dim : {2, 64, 80, 96}) {
      for (const int length : {1, 31, 130, 300}) {
        if (group * head_dim * length > 64 * 2 * 300) continue;
        AttentionCase test = MakeAttention(group, head_dim, length);
        test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                        (head_dim + test.padded_dim));
        test.q = Bf16s(length * group * head_dim, 2.0f);
        const auto whole = test.Attend(*kernels_, 1 << 20);
        ExpectClose(test.Attend(kScalarKernels, 1 << 20), whole, 0.02f,
                    "attention");
        for (const int chunk : {1, 2, 3, 5, 11}) {
          EXPECT_EQ(whole, test.Attend(*kernels_, chunk)) << chunk;
        }
      }
    }
  }
}

// Windows that end within a block, at its border, and within a step of the
// softmax; scores far above the cap.
TEST_P(KernelsTest, AttentionWithWindowAndCap) {
  for (const int window : {0, 1, 2, 31, 32, 33, 64, 100, 128, 129, 400}) {
    for (const float cap : {0.0f, 5.0f}) {
      const int group = window % 2 == 0 ? 2 : 3;
      const int head_dim = window == 128 ? 256 : 32;
      AttentionCase test = MakeAttention(group, head_dim, 330);
      test.window = window;
      test.score_cap = cap;
      test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                      (head_dim + test.padded_dim));
      test.q = Bf16s(test.length * group * head_dim, 3.0f);
      const auto whole = test.Attend(*kernels_, 1 << 20);
      ExpectClose(test.Attend(kScalarKernels, 1 << 20), whole, 0.02f,
                  "window " + std::to_string(window));
      for (const int chunk : {1, 5, 7}) {
        ASSERT_EQ(whole, test.Attend(*kernels_, chunk))
            << "window " << window << " cap " << cap << " chunk " << chunk;
      }
    }
  }
}

// Sequences of several parts: against the oracle, in any chunks, and each part
// by itself.
TEST_P(KernelsTest, AttentionInPartsHasTheSameBits) {
  if (kernels_->attention_part == nullptr) GTEST_SKIP() << "has no parts";
  for (const int window : {0, 900, 1500}) {
    const int length = 2 * kAttentionPart + 150, group = 3, head_dim = 16;
    AttentionCase test = MakeAttention(group, head_dim, length);
    test.window = window;
    test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                    (head_dim + test.padded_dim));
    test.q = Bf16s(length * group * head_dim, 2.0f);
    const auto whole = test.Attend(*kernels_, 1 << 20);
    ASSERT_EQ(whole, test.Attend(*kernels_, 7)) << "window " << window;
    std::vector<bf16_t> expected(whole.size()), actual(whole.size());
    std::vector<float> workspace(
        AttentionWorkspaceBytes(group, head_dim, test.padded_dim) / 4);
    for (int first = 3; first + 5 <= length; first += 97) {
      const AttentionItem item = test.Item(first, 5, actual.data());
      const size_t begin = first * group * head_dim;
      const size_t end = begin + 5 * group * head_dim;
      kScalarKernels.attention(test.Item(first, 5, expected.data()),
                               workspace.data());
      ExpectClose({expected.begin() + begin, expected.begin() + end},
                  {whole.begin() + begin, whole.begin() + end}, 0.02f,
                  "parts at " + std::to_string(first));
      const int seen = window > 0 ? std::max(first - window + 1, 0) : 0;
      const int first_part = seen / kAttentionPart;
      const int parts = (first + 4) / kAttentionPart + 1 - first_part;
      const int64_t size = AttentionPartialFloats(5 * group, test.padded_dim);
      std::vector<float> partials(parts * size, std::nanf(""));
      for (int part = parts - 1; part >= 0; --part) {
        kernels_->attention_part(item, first_part + part, workspace.data(),
                                 partials.data() + part * size);
      }
      kernels_->attention_merge(item, parts, partials.data());
      ASSERT_TRUE(std::equal(whole.begin() + begin, whole.begin() + end,
                             actual.begin() + begin))
          << "window " << window << " at " << first;
    }
  }
}

// Blocks that lie before every window aren't touched, whatever they hold.
TEST_P(KernelsTest, AttentionSkipsBlocksThatNobodySees) {
  AttentionCase test = MakeAttention(2, 64, 300);
  test.window = 40;
  const int block = kKvBlock * (64 + test.padded_dim);
  test.kv = Bf16s((2 * test.blocks.size() + 1) * block);
  test.q = Bf16s(test.length * 2 * 64);
  const auto expected = test.Attend(*kernels_, 1 << 20);
  const int first = 280, seen = (first - 39) / kKvBlock;
  std::fill_n(test.kv.begin() + block, block, bf16_t{0x7fc0});
  std::fill_n(test.blocks.begin(), seen, 1);
  std::vector<bf16_t> out(test.q.size());
  std::vector<float> workspace(AttentionWorkspaceBytes(2, 64, test.padded_dim) /
                               4);
  kernels_->attention(test.Item(first, 20, out.data()), workspace.data());
  EXPECT_TRUE(std::equal(expected.begin() + first * 128, expected.end(),
                         out.begin() + first * 128));
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
