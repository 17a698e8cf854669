// Products that fetch adapters beside their weights: the bits of GemmFn, and
// every range fetched once, in order.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/runtime/kernels/kernels_fixture.h"

namespace descant::kernels {
namespace {

constexpr int64_t kLdb = 2 * kColumnBlock;

TEST_P(KernelsTest, GemmBesideHasTheBitsOfGemm) {
  ASSERT_NE(nullptr, kernels_->gemm_beside);
  const std::vector<bf16_t> memory(4096);
  const FetchRange range = {reinterpret_cast<const std::byte*>(memory.data()),
                            512};
  const std::vector<FetchRange> ranges(7, range);
  for (const int32_t pairs : {1, 5, 64, 97}) {
    const int64_t lda = 2 * pairs + 6;
    const auto b = Bf16s(2 * pairs * kLdb);
    for (int32_t rows = 1; rows <= 64; rows += rows < 40 ? 1 : 6) {
      const auto a = Bf16s(rows * lda);
      for (const bool has_next : {false, true}) {
        const bf16_t* next = has_next ? b.data() + pairs * kLdb : nullptr;
        std::vector<float> expected(rows * kColumnBlock), actual(expected);
        kernels_->gemm(rows, pairs, a.data(), lda, b.data(), kLdb, next,
                       expected.data(), kColumnBlock, /*accumulate=*/false);
        FetchStream beside;
        beside.soon = {ranges.data(), ranges.data() + 3};
        beside.later = {ranges.data() + 3, ranges.data() + 7};
        kernels_->gemm_beside(rows, pairs, a.data(), lda, b.data(), kLdb, next,
                              actual.data(), kColumnBlock, &beside);
        ASSERT_EQ(expected, actual) << rows << " rows, " << pairs << " pairs";
      }
    }
  }
}

TEST_P(KernelsTest, GemmBesideTakesWhatIsSoonReadFirst) {
  ASSERT_NE(nullptr, kernels_->gemm_beside);
  constexpr int32_t kPairs = 64;
  const std::vector<bf16_t> memory(1 << 16);
  const auto* at = reinterpret_cast<const std::byte*>(memory.data());
  // Longer ones than a tile fetches, and some that are no multiple of what it
  // fetches at a time.
  const std::vector<FetchRange> ranges = {
      {at, 512}, {at + 512, 90000}, {at + 90512, 1000}, {at + 91512, 512}};
  const auto a = Bf16s(2 * kPairs * 64);
  const auto b = Bf16s(2 * kPairs * kLdb);
  std::vector<float> c(64 * kColumnBlock);
  FetchStream beside;
  const auto multiply = [&](int32_t rows, const bf16_t* next) {
    kernels_->gemm_beside(rows, kPairs, a.data(), 2 * kPairs, b.data(), kLdb,
                          next, c.data(), kColumnBlock, &beside);
  };
  for (const int32_t rows : {kernels_->gemm_beside_from, 30, 64}) {
    for (const bool has_next : {false, true}) {
      const bf16_t* next = has_next ? b.data() + kPairs * kLdb : nullptr;
      beside = {};
      beside.soon = {ranges.data(), ranges.data() + 2};
      beside.later = {ranges.data() + 2, ranges.data() + 4};
      // A step of few rows has no room for it.
      multiply(kernels_->gemm_beside_from - 1, next);
      EXPECT_EQ(ranges.data(), beside.soon.next);
      int products = 0;
      for (; !beside.empty() && products < 100; ++products) {
        multiply(rows, next);
        if (beside.soon.next != beside.soon.end) {
          EXPECT_EQ(ranges.data() + 2, beside.later.next);
        }
      }
      // All of it needs a few products, and none goes by twice.
      EXPECT_GT(products, 1) << rows;
      EXPECT_LT(products, 100) << rows;
      EXPECT_EQ(beside.soon.end, beside.soon.next);
      EXPECT_EQ(beside.later.end, beside.later.next);
      multiply(rows, next);
      EXPECT_TRUE(beside.empty());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, KernelsTest, testing::Values(CpuIsa::kAvx512));

}  // namespace
}  // namespace descant::kernels
