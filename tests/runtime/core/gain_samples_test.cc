#include "runtime/core/gain_samples.h"

#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace descant {
namespace {

TEST(GainSamplesTest, ThePartThatIsSaved) {
  GainSamples gains;
  gains.Add(0.9, 1);
  EXPECT_EQ(gains.count(), 1);
  EXPECT_NEAR(gains.median(), 0.1, 1e-12);
  EXPECT_EQ(gains.low(), gains.median());
  EXPECT_EQ(gains.high(), gains.median());
  gains.Add(1.1, 1);
  EXPECT_NEAR(gains.median(), 0, 1e-12) << "of two, what lies between";
  gains.Clear();
  EXPECT_EQ(gains.count(), 0);
}

TEST(GainSamplesTest, TimesThatAreNoneAreIgnored) {
  GainSamples gains;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, nan, infinite}) {
    gains.Add(bad, 1);
    gains.Add(1, bad);
    gains.Add(bad, bad);
  }
  EXPECT_EQ(gains.count(), 0);
}

TEST(GainSamplesTest, StallsMoveItLittle) {
  GainSamples gains;
  for (int i = 0; i < GainSamples::kMost; ++i) {
    const double part = 0.8 + 0.001 * (i % 10);
    gains.Add(i % 10 == 3 ? 3 : part, i % 10 == 7 ? 3 : 1);
  }
  EXPECT_NEAR(gains.median(), 0.195, 0.003);
  EXPECT_NEAR(gains.low(), 0.195, 0.01);
  EXPECT_NEAR(gains.high(), 0.195, 0.01);
}

TEST(GainSamplesTest, OnlyTheLastOnesCount) {
  GainSamples gains;
  for (int i = 0; i < 100; ++i) gains.Add(0.5, 1);
  EXPECT_EQ(gains.count(), GainSamples::kMost);
  for (int i = 0; i < GainSamples::kMost; ++i) gains.Add(0.9, 1);
  EXPECT_NEAR(gains.low(), 0.1, 1e-12);
  EXPECT_NEAR(gains.high(), 0.1, 1e-12);
}

// low() and high() are on either side of the true gain, nearly always, and
// come nearer to each other.
TEST(GainSamplesTest, BoundsHoldTheGain) {
  std::mt19937_64 random(20261127);
  std::printf("seed 20261127\n");
  std::normal_distribution<double> noise(0, 0.03);
  int above = 0;
  int below = 0;
  double widths[GainSamples::kMost + 1] = {};
  constexpr int kTimes = 2000;
  for (int time = 0; time < kTimes; ++time) {
    GainSamples gains;
    for (int i = 1; i <= GainSamples::kMost; ++i) {
      gains.Add(0.9 * std::exp(noise(random)), std::exp(noise(random)));
      widths[i] += (gains.high() - gains.low()) / kTimes;
      if (i != 7 && i != GainSamples::kMost) continue;
      above += gains.low() > 0.1 ? 1 : 0;
      below += gains.high() < 0.1 ? 1 : 0;
    }
  }
  EXPECT_LT(above, 0.01 * 2 * kTimes);
  EXPECT_LT(below, 0.01 * 2 * kTimes);
  EXPECT_LT(widths[GainSamples::kMost], 0.7 * widths[7]);
  EXPECT_LT(widths[GainSamples::kMost], 0.06);
}

}  // namespace
}  // namespace descant
