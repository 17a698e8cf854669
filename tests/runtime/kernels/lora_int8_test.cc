// LoRA of int8 values on every instruction set: the scalar oracle's sums, and
// bit for bit those of the same numbers in bf16, for any number of rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/kernels/lora.h"
#include "tests/runtime/kernels/kernels_fixture.h"

namespace descant::kernels {
namespace {

constexpr int32_t kMaxRows = 40;

class LoraInt8Test : public KernelsTest {
 protected:
  // All of them, in any order.
  std::vector<int8_t> Int8s(size_t count) {
    std::vector<int8_t> values(count);
    for (int8_t& value : values) {
      value = static_cast<int8_t>(static_cast<int32_t>(random_() % 255) - 127);
    }
    return values;
  }
  static std::vector<bf16_t> AsBf16(const std::vector<int8_t>& values) {
    std::vector<bf16_t> result;
    for (const int8_t value : values) {
      result.push_back(ToBFloat16(value).bits);
    }
    return result;
  }
  // AMX has tiles for bf16 alone.
  bool SameBitsAsBf16() const { return GetParam() != CpuIsa::kAmx; }
};

TEST_P(LoraInt8Test, Shrink) {
  for (const int32_t pairs : {1, 2, 3, 5, 32, 65, 288}) {
    const int32_t lda = 2 * pairs + 2;
    const auto a = Bf16s(kMaxRows * lda);
    const auto b = Int8s(2 * pairs * kRankBlock);
    const auto wide = AsBf16(b);
    const auto scale = Floats(kRankBlock, 0.01f);
    const auto shrink = [&](const ShrinkFn function, const void* values,
                            int32_t first, int32_t m) {
      std::vector<bf16_t> h(m * kRankBlock);
      function(m, pairs, a.data() + first * lda, lda, values, scale.data(),
               h.data(), kRankBlock);
      return h;
    };
    const auto all = shrink(kernels_->lora_int8->shrink, b.data(), 0, kMaxRows);
    ExpectClose(shrink(kScalarKernels.lora_int8->shrink, b.data(), 0, kMaxRows),
                all, 1e-4f * static_cast<float>(pairs), "shrink");
    if (SameBitsAsBf16()) {
      EXPECT_EQ(shrink(kernels_->lora->shrink, wide.data(), 0, kMaxRows), all);
    }
    for (int32_t m = 1; m <= kMaxRows; ++m) {
      const int32_t first = kMaxRows - m;
      const auto some = shrink(kernels_->lora_int8->shrink, b.data(), first, m);
      ASSERT_TRUE(std::equal(some.begin(), some.end(),
                             all.begin() + first * kRankBlock))
          << m << " rows, " << pairs << " pairs";
    }
  }
}

// Segments of one row and of many, with rows of none between them.
TEST_P(LoraInt8Test, Expand) {
  constexpr int32_t kBlocks = 3, kSegments = 5, kLdh = 128;
  const int32_t ranks[kSegments] = {2, 16, 6, 34, 128};
  const int32_t begins[kSegments] = {0, 1, 2, 20, 21};
  const int32_t ends[kSegments] = {1, 2, 19, 21, kMaxRows};
  const int32_t ldc = kColumnBlock + 3;
  const auto h = Bf16s(kMaxRows * kLdh, 0.01f);
  std::vector<std::vector<int8_t>> b(kSegments);
  std::vector<std::vector<bf16_t>> wide(kSegments);
  std::vector<ExpandSegment> segments, wide_segments;
  for (int32_t i = 0; i < kSegments; ++i) {
    b[i] = Int8s(kBlocks * ranks[i] * kColumnBlock);
    wide[i] = AsBf16(b[i]);
    segments.push_back({h.data() + begins[i] * kLdh, b[i].data(), kLdh,
                        ranks[i] / 2, begins[i], ends[i]});
    wide_segments.push_back(segments.back());
    wide_segments.back().b = wide[i].data();
  }
  const auto before = Floats(kMaxRows * ldc);
  const auto expand = [&](const ExpandFn function,
                          const std::vector<ExpandSegment>& of, int32_t block,
                          int32_t rows) {
    auto c = before;
    for (int32_t row = 0; row < kMaxRows; row += rows) {
      function(of.data(), kSegments, block, row, std::min(row + rows, kMaxRows),
               c.data() + row * ldc, ldc);
    }
    return c;
  };
  for (int32_t block = 0; block < kBlocks; ++block) {
    const ExpandFn function = kernels_->lora_int8->expand;
    const auto all = expand(function, segments, block, kMaxRows);
    EXPECT_NE(all, before);
    const auto expected =
        expand(kScalarKernels.lora_int8->expand, segments, block, kMaxRows);
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_NEAR(expected[i], all[i], 2e-4f) << "at " << i;
    }
    for (int32_t c = 0; c < kColumnBlock; ++c) {
      ASSERT_EQ(all[19 * ldc + c], before[19 * ldc + c]) << "no segment";
    }
    for (const int32_t rows : {1, 5, 13}) {
      EXPECT_EQ(expand(function, segments, block, rows), all)
          << rows << " rows a call";
    }
    if (SameBitsAsBf16()) {
      EXPECT_EQ(expand(kernels_->lora->expand, wide_segments, block, kMaxRows),
                all);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, LoraInt8Test,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(CpuIsaName(info.param));
                         });

}  // namespace
}  // namespace descant::kernels
