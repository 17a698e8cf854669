#include "server/cli/bench/statistics.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace descant::cli {
namespace {

TEST(StatisticsTest, Quantiles) {
  EXPECT_EQ(Quantile({3}, 0.99), 3);
  EXPECT_EQ(Quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_EQ(Quantile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(Quantile({4, 1, 3, 2}, 1), 4);
}

std::vector<double> UpTo(int n) {
  std::vector<double> values(n);
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

// The ranks of published tables of the sign test's interval.
TEST(StatisticsTest, IntervalOfTheMedian) {
  EXPECT_FALSE(MedianOf(UpTo(5)).low.has_value());
  MedianInterval interval = MedianOf(UpTo(6));
  EXPECT_EQ(interval.low, 1);
  EXPECT_EQ(interval.high, 6);
  interval = MedianOf(UpTo(21));
  EXPECT_EQ(interval.median, 11);
  EXPECT_EQ(interval.low, 6);
  EXPECT_EQ(interval.high, 16);
  interval = MedianOf(UpTo(100));
  EXPECT_EQ(interval.low, 40);
  EXPECT_EQ(interval.high, 61);
}

TEST(StatisticsTest, IntervalCoversTheMedian) {
  std::mt19937_64 generator(5);
  std::lognormal_distribution<double> skewed;  // its median is 1
  int covered = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<double> samples(21);
    for (double& sample : samples) sample = skewed(generator);
    const MedianInterval interval = MedianOf(samples);
    covered += *interval.low <= 1 && 1 <= *interval.high;
  }
  EXPECT_GE(covered, 1900);
}

}  // namespace
}  // namespace descant::cli
