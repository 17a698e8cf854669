// Two computations of one output, compared, beside a plain computation.
#include "runtime/model/logprob_comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace descant {
namespace {

std::vector<float> RandomLogits(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::vector<double> LogProbabilities(const std::vector<float>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  std::vector<double> result;
  for (const float logit : logits) {
    result.push_back(logit - largest - std::log(sum));
  }
  return result;
}

// By sorting.
LogprobDifference Plain(const std::vector<float>& first,
                        const std::vector<float>& second) {
  const std::vector<double> a = LogProbabilities(first);
  const std::vector<double> b = LogProbabilities(second);
  std::vector<size_t> order(b.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return b[i] > b[j]; });
  const auto best =
      static_cast<size_t>(std::max_element(a.begin(), a.end()) - a.begin());
  LogprobDifference difference;
  difference.outputs = 1;
  for (size_t i = 0; i < std::min<size_t>(5, order.size()); ++i) {
    difference.largest =
        std::max(difference.largest,
                 static_cast<float>(std::abs(a[order[i]] - b[order[i]])));
  }
  if (best != order[0]) {
    difference.flips = 1;
    difference.widest_flip = static_cast<float>(b[order[0]] - b[best]);
  }
  return difference;
}

TEST(LogprobComparison, IsThePlainComputation) {
  int32_t flips = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    const size_t size = 1 + seed * 37 % 3000;
    const std::vector<float> first = RandomLogits(size, seed);
    std::vector<float> second = first;
    const std::vector<float> noise = RandomLogits(size, seed + 1000);
    for (size_t i = 0; i < size; ++i) second[i] += 0.1f * noise[i];
    const LogprobDifference expected = Plain(first, second);
    const LogprobDifference actual = CompareLogits(first, second);
    EXPECT_EQ(actual.outputs, 1);
    EXPECT_TRUE(actual.finite);
    EXPECT_NEAR(actual.largest, expected.largest, 1e-5) << seed;
    EXPECT_EQ(actual.flips, expected.flips) << seed;
    EXPECT_NEAR(actual.widest_flip, expected.widest_flip, 1e-5) << seed;
    flips += actual.flips;
  }
  EXPECT_GT(flips, 10);
}

TEST(LogprobComparison, EqualLogitsDifferInNothing) {
  for (const size_t size : {1, 4, 5, 1024, 49152}) {
    const std::vector<float> logits = RandomLogits(size, 7);
    const LogprobDifference difference = CompareLogits(logits, logits);
    EXPECT_EQ(difference.largest, 0);
    EXPECT_EQ(difference.flips, 0);
    EXPECT_EQ(difference.widest_flip, 0);
  }
}

TEST(LogprobComparison, AFlipsGapIsTheSecondOnes) {
  const std::vector<float> first = {1, 3, 2, 0};
  const std::vector<float> second = {1, 1.5f, 2.25f, 0};
  const LogprobDifference difference = CompareLogits(first, second);
  EXPECT_EQ(difference.flips, 1);
  EXPECT_FLOAT_EQ(difference.widest_flip, 0.75f);
}

// All of them are shifted alike: the same probabilities.
TEST(LogprobComparison, ComparesProbabilitiesNotLogits) {
  const std::vector<float> first = RandomLogits(1000, 3);
  std::vector<float> second = first;
  for (float& logit : second) logit += 50;
  EXPECT_LT(CompareLogits(first, second).largest, 1e-4f);
}

TEST(LogprobComparison, SaysWhereAValueIsNotFinite) {
  const std::vector<float> logits = RandomLogits(2000, 5);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {size_t{0}, size_t{1023}, size_t{1999}}) {
      std::vector<float> faulty = logits;
      faulty[at] = bad;
      EXPECT_FALSE(CompareLogits(faulty, logits).finite);
      EXPECT_FALSE(CompareLogits(logits, faulty).finite);
      EXPECT_FALSE(CompareLogits(faulty, faulty).finite);
      EXPECT_EQ(CompareLogits(logits, faulty).largest, 0);
    }
  }
}

TEST(LogprobComparison, TimeOfABatch) {
  constexpr size_t kVocabulary = 49152;
  constexpr int kOutputs = 32;
  const std::vector<float> first = RandomLogits(kVocabulary, 1);
  const std::vector<float> second = RandomLogits(kVocabulary, 2);
  const auto begin = std::chrono::steady_clock::now();
  LogprobDifference all;
  for (int i = 0; i < kOutputs; ++i) all.Add(CompareLogits(first, second));
  const std::chrono::duration<double, std::milli> took =
      std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(all.outputs, kOutputs);
  std::printf("%d outputs of %zu logits: %.1f ms\n", kOutputs, kVocabulary,
              took.count());
}

}  // namespace
}  // namespace descant
