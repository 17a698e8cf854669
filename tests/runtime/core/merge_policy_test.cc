// What is measured, built, checked and used; memory is enough.
#include "runtime/core/merge_policy.h"

#include <cmath>
#include <cstdio>
#include <limits>

#include "tests/runtime/core/merge_policy_fixture.h"

namespace descant {
namespace {

class MergePolicyTest : public MergePolicyFixture {};

TEST_F(MergePolicyTest, NothingIsBuiltForNoise) {
  noise_ = 0.10;
  for (int i = 0; i < 20; ++i) Steps(absl::StrCat("noise-", i), 0, 120);
  EXPECT_GT(counts_.measured, 100);
  EXPECT_EQ(counts_.builds, 0);
}

TEST_F(MergePolicyTest, NothingIsBuiltForALoss) {
  Steps("slower", -0.05, 400);
  EXPECT_GT(counts_.measured, 0);
  EXPECT_EQ(counts_.builds, 0);
  ASSERT_TRUE(Record("slower").gain.has_value());
  EXPECT_LT(*Record("slower").gain, 0);
  EXPECT_EQ(Record("slower").reason,
            "merging it saves nothing that is measurable");
}

TEST_F(MergePolicyTest, BuildsWhatWouldHavePaid) {
  const double begin = now_;
  while (counts_.builds == 0 && now_ < begin + 60) Step("a", 0.2);
  ASSERT_EQ(counts_.builds, 1);
  // A second, at 0.2 of the time; the gain is taken for less than it seems.
  EXPECT_GE(now_ - begin, 4.7);
  EXPECT_LE(now_ - begin, 9);
  EXPECT_EQ(State("a"), MergeState::kBuilding);
  EXPECT_EQ(Step("a", 0.2), MergeStep::kUnmerged);
  Steps("a", 0.2, 1.1);
  EXPECT_EQ(State("a"), MergeState::kChecking);
  Steps("a", 0.2, 1);
  EXPECT_EQ(State("a"), MergeState::kMerged);
  EXPECT_EQ(Step("a", 0.2), MergeStep::kMerged);
  EXPECT_EQ(counts_.checked, 5);
  EXPECT_NEAR(*Record("a").gain, 0.2, 0.03);
  EXPECT_EQ(Record("a").builds, 1u);
  EXPECT_EQ(Record("a").build_seconds, 1);
}

TEST_F(MergePolicyTest, ADearBuildNeedsMore) {
  Steps("a", 0.01, 60);
  EXPECT_EQ(counts_.builds, 0);
}

TEST_F(MergePolicyTest, CountsWhatWasSaved) {
  Merge("a", 0.2);
  const double saved = Record("a").saved_seconds;
  Steps("a", 0.2, 100);
  EXPECT_NEAR(Record("a").saved_seconds - saved, 100 * 0.2 / 0.8, 4);
  EXPECT_GT(Record("a").merged_steps, 5000u);
}

TEST_F(MergePolicyTest, TheOtherWayIsTriedNowAndThen) {
  Merge("a", 0.2);
  counts_ = {};
  for (int i = 0; i < 5120; ++i) Step("a", 0.2);
  EXPECT_EQ(counts_.unmerged, 20);
  EXPECT_EQ(counts_.merged, 5100);
}

// The machine changed: trials find out, and the weights are dropped although
// trials use them.
TEST_F(MergePolicyTest, DropsWhatSavesNothingAnyMore) {
  Merge("a", 0.2);
  Steps("a", -0.1, 1500);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_EQ(policy_->history().back().reason, "merged steps take no less time");
  EXPECT_EQ(policy_->memory_used(), 0u);
}

TEST_F(MergePolicyTest, TheThresholdFallsWhereABuildPaid) {
  PayOff("a");
  EXPECT_EQ(Record("a").threshold, 1);
  Wait(MergePolicy::kIdleSeconds + 1);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_DOUBLE_EQ(Record("a").threshold, 0.95);
}

TEST_F(MergePolicyTest, TheThresholdRisesWhereItDidNot) {
  Merge("a", 0.2);
  Wait(MergePolicy::kIdleSeconds + 1);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_DOUBLE_EQ(Record("a").threshold, 1.5);
  EXPECT_EQ(policy_->memory_used(), 0u);
  // Nothing of before counts: it must be worth half as much again.
  PayOff("other");
  const double begin = now_;
  while (State("a") == MergeState::kUnmerged && now_ < begin + 60) {
    Step("a", 0.2);
  }
  EXPECT_EQ(State("a"), MergeState::kBuilding);
  EXPECT_GE(now_ - begin, 7);
}

TEST_F(MergePolicyTest, TheThresholdHasBounds) {
  for (int i = 0; i < 20; ++i) {
    PayOff("a");
    Wait(MergePolicy::kIdleSeconds + 1);
  }
  EXPECT_EQ(Record("a").threshold, 0.5);
}

TEST_F(MergePolicyTest, ChecksOnlyTheFirstBuild) {
  PayOff("a");
  EXPECT_EQ(counts_.checked, 5);
  Wait(MergePolicy::kIdleSeconds + 1);
  PayOff("a");
  EXPECT_EQ(counts_.builds, 2);
  EXPECT_EQ(counts_.checked, 5);
}

TEST_F(MergePolicyTest, AFailedCheckIsTheLast) {
  check_problem_ = "other tokens";
  Steps("a", 0.3, 60);
  EXPECT_EQ(State("a"), MergeState::kRefused);
  EXPECT_EQ(Record("a").reason, "other tokens");
  EXPECT_EQ(counts_.checked, 1);
  EXPECT_EQ(policy_->memory_used(), 0u);
  check_problem_.clear();
  Steps("a", 0.3, 2000);
  EXPECT_EQ(counts_.builds, 1);

  ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
  EXPECT_EQ(State("a"), MergeState::kRefused) << "that wants no new try";
  ASSERT_TRUE(SetMode("a", MergeMode::kAuto).ok());
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  Merge("a", 0.3);
  EXPECT_EQ(counts_.checked, 6);
}

TEST_F(MergePolicyTest, AFailedBuildIsTheLast) {
  build_problem_ = "no memory";
  Steps("a", 0.3, 2000);
  EXPECT_EQ(State("a"), MergeState::kRefused);
  EXPECT_EQ(Record("a").reason, "no memory");
  EXPECT_EQ(Record("a").builds, 0u);
  EXPECT_EQ(counts_.builds, 1);
  EXPECT_EQ(policy_->memory_used(), 0u);
  build_problem_.clear();
  ASSERT_TRUE(SetMode("a", MergeMode::kPinned).ok());
  Merge("a", 0.3);
}

TEST_F(MergePolicyTest, LateAnswersToChecksAreIgnored) {
  EXPECT_FALSE(policy_->CheckEnded(now_, Key("unknown"), ""));
  Step("a", 0.2);
  EXPECT_FALSE(policy_->CheckEnded(now_, Key("a"), ""));
  Merge("a", 0.2);
  EXPECT_FALSE(policy_->CheckEnded(now_, Key("a"), "too late"));
  EXPECT_EQ(State("a"), MergeState::kMerged);
}

TEST_F(MergePolicyTest, WhoHasFewStepsIsNotMeasured) {
  for (int i = 0; i < 2000; ++i) Step(absl::StrCat("rare-", i % 100), 0.3);
  EXPECT_EQ(counts_.measured, 0) << "0.4 s each";
  // Nor who could not have a build back with the best of gains.
  build_seconds_ = 50;
  PayOff("a");
  counts_ = {};
  Steps("b", 0.3, 60);
  EXPECT_EQ(counts_.measured, 0);
}

TEST_F(MergePolicyTest, RehearsalsTakeASmallShare) {
  noise_ = 0.5;
  double alone = 0;
  for (int i = 0; i < 20'000; ++i) {
    Step("a", 0.001);
    const MergeRecord record = Record("a");
    alone = record.alone_seconds;
    ASSERT_LE(record.measure_seconds, 0.03 * alone + 2 * kStep);
  }
  EXPECT_GT(counts_.measured, 9);
  EXPECT_LE(Record("a").measure_seconds,
            MergePolicy::kLossShare * alone + MergePolicy::kFreeDebt + kStep);
}

TEST_F(MergePolicyTest, LittleIsSpentOnALittleGain) {
  Steps("little", 0.01, 200);
  EXPECT_GE(counts_.measured, 3);
  EXPECT_LE(Record("little").measure_seconds, 0.003 * 200);
  counts_ = {};
  Steps("much", 0.2, 4);
  EXPECT_GE(Record("much").measure_seconds, 0.015 * 4)
      << "while it may be much";
}

// Of two sizes that take about as much, the one whose steps are short; of two
// of which one takes little, the other.
TEST_F(MergePolicyTest, MeasuresWhereARehearsalSaysMost) {
  constexpr int32_t kFewRows = 8;
  constexpr int32_t kManyRows = 128;
  constexpr double kShort = kStep / 4;
  for (const bool short_ones : {true, false}) {
    const std::string name = short_ones ? "short" : "long";
    const double of_many = (short_ones ? 6 : 12) * kShort;
    int32_t few = 0;
    int32_t many = 0;
    const double end = now_ + 60;
    while (now_ < end && State(name) == MergeState::kUnmerged) {
      many += Step(name, 0.2, kManyRows, of_many) == MergeStep::kMeasure;
      for (int i = 0; i < (short_ones ? 5 : 2); ++i) {
        few += Step(name, 0.2, kFewRows, kShort) == MergeStep::kMeasure;
      }
    }
    EXPECT_NE(State(name), MergeState::kUnmerged);
    EXPECT_GE(short_ones ? few : many, 7) << name;
    EXPECT_EQ(short_ones ? many : few, 0) << name;
    PayOff(name);
  }
}

// What steps of sizes that were not measured would have saved is claimed with
// care.
TEST_F(MergePolicyTest, OtherSizesAreSureOfLess) {
  build_seconds_ = 10;
  PayOff("dear to build");
  const auto would_have_saved = [this] {
    double seconds = 0;
    EXPECT_EQ(std::sscanf(Record("a").reason.c_str(), "would have saved %lf",
                          &seconds),
              1)
        << Record("a").reason;
    return seconds;
  };
  while (!Record("a").gain.has_value()) Step("a", 0.2, 8);
  for (int i = 0; i < 50; ++i) Step("a", 0.2, 8);
  const double at_first = would_have_saved();
  for (int i = 0; i < 50; ++i) Step("a", 0.2, 8);
  const double same_size = would_have_saved();
  for (int i = 0; i < 50; ++i) Step("a", 0.2, 32);
  const double other_size = would_have_saved();
  const double claimed = same_size - at_first;
  EXPECT_GE(claimed, 0.6 * 50 * kStep * 0.2);
  EXPECT_LE(claimed, 50 * kStep * 0.2);
  EXPECT_GE(other_size - same_size, 0.3 * claimed);
  EXPECT_LE(other_size - same_size, 0.8 * claimed);
}

TEST_F(MergePolicyTest, OneLossAtATime) {
  Merge("a", 0.3);
  counts_ = {};
  // It goes, and one like it comes; a second is 1/kLossShare of their time.
  Steps("b", 0.3, 0.4 / MergePolicy::kLossShare);
  EXPECT_EQ(counts_.builds, 0);
  EXPECT_EQ(counts_.measured, 0);
  Steps("b", 0.3, 0.6 / MergePolicy::kLossShare);
  EXPECT_EQ(counts_.builds, 1);
}

TEST_F(MergePolicyTest, WhatPaidLeavesRoomForTheNext) {
  PayOff("a");
  Merge("b", 0.3);
  EXPECT_EQ(State("a"), MergeState::kMerged);
  EXPECT_EQ(policy_->memory_used(), 2 * kBytes);
}

TEST_F(MergePolicyTest, AClockThatStandsStill) {
  const AdapterKey key = Key("a");
  MergePolicy::Decision decision;
  for (int i = 0; i < 1000; ++i) {
    policy_->Decide(7, &decision);
    const MergeStep how = policy_->PlanStep(7, key, kBytes, 8);
    policy_->StepTook(7, key, how, 8, 0, 0);
  }
  EXPECT_FALSE(decision.build.has_value());
  EXPECT_EQ(policy_->Records(7).front().recent_seconds, 0);
}

TEST_F(MergePolicyTest, TimesThatAreNone) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  Step("a", 0.2);
  const double alone = Record("a").alone_seconds;
  for (const double seconds : {nan, infinite, -1.0}) {
    policy_->StepTook(now_, Key("a"), MergeStep::kMeasure, 8, seconds, 1);
  }
  EXPECT_EQ(Record("a").alone_seconds, alone);
  policy_->StepTook(now_, Key("a"), MergeStep::kMeasure, 8, kStep, nan);
  policy_->StepTook(now_, Key("a"), MergeStep::kMeasure, 8, kStep, infinite);
  EXPECT_EQ(Record("a").measure_seconds, 0);
  build_seconds_ = 0;
  Merge("a", 0.2);
  policy_->StepTook(now_, Key("unknown"), MergeStep::kUnmerged, 8, kStep);
  EXPECT_TRUE(std::isfinite(Record("a").saved_seconds));
}

TEST_F(MergePolicyTest, AnyNumberOfRows) {
  for (const int32_t rows : {0, -1, 1, std::numeric_limits<int32_t>::max()}) {
    for (int i = 0; i < 100; ++i) Step("a", 0.2, rows);
  }
  EXPECT_EQ(policy_->Records(now_).size(), 1u);
}

// What they take may be known only then.
TEST_F(MergePolicyTest, MemoryIsWhatTheBuiltWeightsTake) {
  MergePolicy policy(100);
  const AdapterKey key("", "sha256:small");
  MergePolicy::Decision decision;
  ASSERT_TRUE(policy.SetMode(1, key, 90, MergeMode::kPinned).ok());
  policy.Decide(1, &decision);
  ASSERT_TRUE(decision.build.has_value());
  EXPECT_EQ(policy.memory_used(), 90u);
  ASSERT_TRUE(policy.BuildEnded(2, 1, "", 30));
  EXPECT_EQ(policy.memory_used(), 30u);
  EXPECT_EQ(policy.Records(2)[0].bytes, 30u);
  ASSERT_TRUE(policy.SetMode(3, key, 30, MergeMode::kForbidden).ok());
  policy.Decide(3, &decision);
  EXPECT_EQ(decision.drop.size(), 1u);
  EXPECT_EQ(policy.memory_used(), 0u);
}

}  // namespace
}  // namespace descant
