// Wishes of operators, memory that is short, and bounds.
#include <chrono>

#include "runtime/base/reason.h"
#include "tests/runtime/core/merge_policy_fixture.h"

namespace descant {
namespace {

class MergePolicyMemoryTest : public MergePolicyFixture {};

TEST_F(MergePolicyMemoryTest, APinIsBuiltAtOnceAndStays) {
  ASSERT_TRUE(SetMode("a", MergeMode::kPinned).ok());
  EXPECT_EQ(Record("a").reason, "is to be built");
  EXPECT_EQ(Decide().build, Key("a"));
  Wait(2);
  EXPECT_EQ(State("a"), MergeState::kChecking);
  Steps("a", -0.1, 1);
  EXPECT_EQ(State("a"), MergeState::kMerged);
  Wait(2 * MergePolicy::kIdleSeconds);
  EXPECT_EQ(Step("a", -0.1), MergeStep::kMerged) << "whatever it saves";
  EXPECT_EQ(counts_.measured, 0);
  // Nothing holds it any longer.
  ASSERT_TRUE(SetMode("a", MergeMode::kAuto).ok());
  Wait(MergePolicy::kIdleSeconds + 1);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
}

TEST_F(MergePolicyMemoryTest, PinsAreBuiltOneAfterTheOther) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(SetMode(name, MergeMode::kPinned).ok());
  }
  Wait(10);
  EXPECT_EQ(counts_.builds, 3);
  EXPECT_EQ(policy_->memory_used(), 3 * kBytes);
}

TEST_F(MergePolicyMemoryTest, APinEvictsOthersButNoPin) {
  SetCopies(2);
  ASSERT_TRUE(SetMode("pinned", MergeMode::kPinned).ok());
  Merge("pinned", 0.1);
  PayOff("a");
  ASSERT_TRUE(SetMode("b", MergeMode::kPinned).ok());
  const MergePolicy::Decision decision = Decide();
  EXPECT_EQ(decision.build, Key("b"));
  ASSERT_EQ(decision.drop.size(), 1u);
  EXPECT_EQ(decision.drop[0], Key("a"));
  EXPECT_EQ(Record("a").threshold, 1) << "no fault of its own";
  Steps("a", 0.3, 60);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_EQ(State("pinned"), MergeState::kMerged);

  const absl::Status full = SetMode("c", MergeMode::kPinned);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(full), "MERGE_MEMORY_FULL");
  EXPECT_TRUE(SetMode("b", MergeMode::kPinned).ok()) << "it is one already";
  ASSERT_TRUE(SetMode("b", MergeMode::kAuto).ok());
  EXPECT_TRUE(SetMode("c", MergeMode::kPinned).ok());
}

TEST_F(MergePolicyMemoryTest, APinWaitsForTheBuildAtHand) {
  SetCopies(1);
  while (counts_.builds == 0) Step("a", 0.3);
  ASSERT_TRUE(SetMode("b", MergeMode::kPinned).ok());
  EXPECT_FALSE(Decide().build.has_value());
  Wait(3);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_EQ(State("b"), MergeState::kChecking);
}

TEST_F(MergePolicyMemoryTest, WhatNeverFitsIsLeftAlone) {
  policy_ = std::make_unique<MergePolicy>(kBytes - 1);
  Steps("a", 0.3, 60);
  EXPECT_EQ(counts_.measured + counts_.builds, 0);
  EXPECT_FALSE(SetMode("a", MergeMode::kPinned).ok());
  EXPECT_EQ(Record("a").mode, MergeMode::kAuto);
  EXPECT_EQ(Record("a").reason,
            "its weights take more than the memory for merges");
}

TEST_F(MergePolicyMemoryTest, ForbiddenMeansUnmergedAtOnce) {
  Merge("a", 0.3);
  ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
  EXPECT_EQ(policy_->PlanStep(now_, Key("a"), kBytes, 8), MergeStep::kUnmerged);
  ASSERT_EQ(Decide().drop.size(), 1u);
  EXPECT_EQ(Record("a").reason, "an operator forbids to merge it");
  EXPECT_EQ(policy_->memory_used(), 0u);
  counts_ = {};
  Steps("a", 0.3, 500);
  EXPECT_EQ(counts_.builds + counts_.measured, 0);
}

TEST_F(MergePolicyMemoryTest, ForbiddenWhileItIsBuilt) {
  while (counts_.builds == 0) Step("a", 0.3);
  ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
  EXPECT_TRUE(Decide().drop.empty()) << "it is not there yet";
  Wait(2);
  EXPECT_TRUE(held_.empty());
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_EQ(policy_->memory_used(), 0u);
}

TEST_F(MergePolicyMemoryTest, ForbiddenForAMomentWhileItIsBuilt) {
  while (counts_.builds == 0) Step("a", 0.3);
  ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
  ASSERT_TRUE(SetMode("a", MergeMode::kAuto).ok());
  Wait(2);
  EXPECT_EQ(State("a"), MergeState::kChecking);
}

TEST_F(MergePolicyMemoryTest, ForbiddenWhileItIsChecked) {
  while (State("a") != MergeState::kChecking) Step("a", 0.3);
  ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
  EXPECT_EQ(Decide().drop.size(), 1u);
  EXPECT_FALSE(policy_->CheckEnded(now_, Key("a"), ""));
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
}

TEST_F(MergePolicyMemoryTest, DropsWhatIsNotUsed) {
  Merge("a", 0.3);
  Wait(MergePolicy::kIdleSeconds - 2);
  EXPECT_EQ(State("a"), MergeState::kMerged);
  Wait(3);
  EXPECT_EQ(State("a"), MergeState::kUnmerged);
  EXPECT_EQ(policy_->history().back().reason,
            "it had no step for itself for 300 s");
}

TEST_F(MergePolicyMemoryTest, TheStrongerTakesTheWeakersPlace) {
  SetCopies(1);
  Merge("weak", 0.1);
  Steps("weak", 0.1, 100);
  counts_ = {};
  for (int i = 0; i < 30'000; ++i) {
    Step("weak", 0.1);
    Step("strong", 0.3);
  }
  EXPECT_EQ(State("strong"), MergeState::kMerged);
  EXPECT_EQ(counts_.builds, 1) << "and not back again";
}

TEST_F(MergePolicyMemoryTest, ManyWeakOnesDoNotTakeAStrongOnesPlace) {
  SetCopies(1);
  PayOff("strong");
  counts_ = {};
  for (int i = 0; i < 6000; ++i) {
    for (int j = 0; j < 3; ++j) Step("strong", 0.2);
    for (int j = 0; j < 6; ++j) Step(absl::StrCat("weak-", j), 0.2);
  }
  EXPECT_EQ(State("strong"), MergeState::kMerged);
  EXPECT_EQ(counts_.builds, 0);
}

TEST_F(MergePolicyMemoryTest, ShortTurnsDoNotMakeItBuildEachTime) {
  SetCopies(1);
  for (int i = 0; i < 1000; ++i) {
    Steps("a", 0.2, 0.5);
    Steps("b", 0.2, 0.5);
  }
  EXPECT_GE(counts_.builds, 1);
  EXPECT_LE(counts_.builds, 5);
}

TEST_F(MergePolicyMemoryTest, LongTurnsDo) {
  SetCopies(1);
  for (int i = 0; i < 5; ++i) {
    Steps("a", 0.3, 120);
    EXPECT_EQ(State("a"), MergeState::kMerged);
    Steps("b", 0.3, 120);
    EXPECT_EQ(State("b"), MergeState::kMerged);
  }
  EXPECT_EQ(counts_.builds, 10);
  EXPECT_LT(Record("a").threshold, 1);
}

TEST_F(MergePolicyMemoryTest, TheHistoryIsShort) {
  ASSERT_TRUE(SetMode("a", MergeMode::kPinned).ok());
  for (size_t i = 0; i < 2 * MergePolicy::kMostEvents; ++i) {
    ASSERT_TRUE(SetMode("a", MergeMode::kForbidden).ok());
    Wait(2);
    ASSERT_TRUE(SetMode("a", MergeMode::kPinned).ok());
    Wait(2);
  }
  EXPECT_EQ(policy_->history().size(), MergePolicy::kMostEvents);
  EXPECT_LE(policy_->history().front().when, policy_->history().back().when);
}

TEST_F(MergePolicyMemoryTest, AFloodOfAdapters) {
  PayOff("a");
  ASSERT_TRUE(SetMode("pinned", MergeMode::kPinned).ok());
  ASSERT_TRUE(SetMode("forbidden", MergeMode::kForbidden).ok());
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000; ++i) {
    const AdapterKey key = Key(absl::StrCat("flood-", i));
    const MergeStep how = policy_->PlanStep(now_, key, kBytes, 8);
    policy_->StepTook(now_, key, how, 8, kStep);
    now_ += 0.001;
    Decide();
    if (i % 1000 == 0) {
      ASSERT_LE(policy_->Records(now_).size(), MergePolicy::kMostAdapters);
    }
  }
  // A hundredth of that on any machine; sanitizers are slow.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(State("a"), MergeState::kMerged);
  EXPECT_EQ(Record("pinned").mode, MergeMode::kPinned);
  EXPECT_EQ(Record("forbidden").mode, MergeMode::kForbidden);
  EXPECT_FALSE(Record("flood-99999").key.digest.empty());
  EXPECT_TRUE(Record("flood-1").key.digest.empty());
}

TEST_F(MergePolicyMemoryTest, AFloodOfWishes) {
  size_t accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    const absl::Status status =
        SetMode(absl::StrCat("wish-", i), MergeMode::kForbidden);
    if (status.ok()) {
      ++accepted;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    }
    EXPECT_TRUE(SetMode(absl::StrCat("none-", i), MergeMode::kAuto).ok());
  }
  EXPECT_EQ(accepted, MergePolicy::kMostWishes);
  EXPECT_EQ(policy_->Records(now_).size(), MergePolicy::kMostWishes);
  Merge("a", 0.3);
  EXPECT_TRUE(SetMode("wish-0", MergeMode::kAuto).ok());
  EXPECT_TRUE(SetMode("b", MergeMode::kForbidden).ok());
}

// Anything in any order: memory, builds and weights stay consistent (the
// fixture looks after each step).
TEST_F(MergePolicyMemoryTest, AnyOrderOfCalls) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    random_.seed(seed);
    SetCopies(1 + seed % 3);
    held_.clear();
    building_.reset();
    build_ends_ = 0;
    build_seconds_ = 0.05 * static_cast<double>(1 + seed % 40);
    for (int i = 0; i < 300 && !HasFailure(); ++i) {
      const std::string name = absl::StrCat("a", random_() % 5);
      const double gain = 0.1 * static_cast<double>(random_() % 5) - 0.1;
      build_problem_ = random_() % 20 == 0 ? "it failed" : "";
      check_problem_ = random_() % 50 == 0 ? "other tokens" : "";
      const uint64_t what = random_() % 100;
      if (what < 6) {
        (void)SetMode(name, static_cast<MergeMode>(random_() % 3));
      } else if (what < 8) {
        Wait(static_cast<double>(random_() % 400));
      } else {
        for (uint64_t steps = random_() % 200; steps > 0; --steps) {
          Step(name, gain);
        }
      }
    }
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_GT(counts_.builds, 200);
  EXPECT_GT(counts_.drops, 200);
  EXPECT_GT(counts_.merged, 10000);
}

}  // namespace
}  // namespace descant
