// Hot merge through the engine: who is merged, what steps use it, and that
// everybody's tokens stay what they are.
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class EngineMergeTest : public EngineFixture {
 protected:
  EngineMergeTest() {
    runner_options_.merges = true;
    options_.hot_merge = true;
    options_.prefix_cache = false;
  }

  // Steps take 100 ms; without the adapter `saves` of it less.
  void StartWithTimes(double saves,
                      const std::function<void(FakeRunner*)>& prepare = {}) {
    const Duration whole = std::chrono::milliseconds(100);
    const auto less = std::chrono::duration_cast<Duration>(whole * (1 - saves));
    Start([&](FakeRunner* runner) {
      runner->on_launch = [this, whole, less](const Batch& batch) {
        gate_.Pass();
        if (batch.merged != nullptr) ++merged_launches_;
        if (batch.segments.size() > 1) ++mixed_launches_;
        clock_.Advance(batch.merged != nullptr ? less : whole);
      };
      runner->on_rehearse = [this, less](const Batch& batch,
                                         const MergedWeights*) {
        EXPECT_EQ(1u, batch.segments.size());
        ++rehearsals_;
        clock_.Advance(less);
      };
      runner->on_merge = [this](const Adapter&) { ++builds_; };
      if (prepare) prepare(runner);
    });
  }

  MergeReport Merges() {
    std::atomic<bool> done{false};
    MergeReport report;
    engine_->InspectMerges([&](const MergeReport& merges) {
      report = merges;
      done = true;
    });
    while (!done) std::this_thread::yield();
    return report;
  }
  absl::Status SetMode(MergeMode mode, std::shared_ptr<const Adapter> adapter) {
    std::atomic<bool> done{false};
    absl::Status status;
    engine_->SetMergeMode(mode, std::move(adapter),
                          [&](const AdapterActionResult& result) {
                            status = result.status;
                            done = true;
                          });
    while (!done) std::this_thread::yield();
    return status;
  }
  MergeStatus StatusOf(const Adapter& adapter) {
    for (const MergeStatus& status : Merges().adapters) {
      if (SameKey(status.record.key, KeyOf(adapter))) return status;
    }
    return {};
  }

  // One request after the other until the adapter's weights are in `state`.
  bool AskUntil(const std::shared_ptr<const Adapter>& adapter, MergeState state,
                int most = 400) {
    for (int i = 0; i < most; ++i) {
      if (StatusOf(*adapter).record.state == state) return true;
      Ask(adapter);
    }
    return false;
  }
  // The answer must be what it is alone.
  void Ask(const std::shared_ptr<const Adapter>& adapter) {
    const Request request = Make(5, 20, adapter);
    const auto sink = Submit(request);
    EXPECT_TRUE(sink->Wait().status.ok());
    EXPECT_EQ(Alone(request).tokens, sink->tokens());
  }
  void WaitUntilFreed() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (runner_->merged_alive() > 0 &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(0, runner_->merged_alive());
  }

  std::atomic<int> merged_launches_{0};
  std::atomic<int> mixed_launches_{0};
  std::atomic<int> rehearsals_{0};
  std::atomic<int> builds_{0};
};

TEST_F(EngineMergeTest, WhoOwnsTheTrafficIsMeasuredBuiltComparedAndMerged) {
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  EXPECT_EQ(1, builds_);
  Ask(hot);
  EXPECT_GT(merged_launches_, 10);
  EXPECT_GE(rehearsals_, 10);
  const MergeReport report = Merges();
  EXPECT_TRUE(report.enabled);
  ASSERT_EQ(1u, report.adapters.size());
  EXPECT_EQ("hot", report.adapters[0].name);
  EXPECT_NEAR(0.2, report.adapters[0].record.gain.value_or(0), 0.01);
  EXPECT_EQ(10u, report.memory_used);
  EXPECT_EQ(20u, report.memory_capacity);
  std::vector<MergeState> states;
  for (const MergeEvent& event : report.history) {
    EXPECT_EQ("hot", event.name);
    EXPECT_GT(event.unix_seconds, 1.6e9);
    states.push_back(event.state);
  }
  EXPECT_THAT(states,
              testing::ElementsAre(MergeState::kBuilding, MergeState::kChecking,
                                   MergeState::kMerged));
  const EngineStats stats = engine_->Stats();
  ASSERT_EQ(1u, stats.merges.merged.size());
  EXPECT_EQ("hot", stats.merges.merged[0].label);
  EXPECT_EQ("sha256:hot", stats.merges.merged[0].digest);
  EXPECT_EQ(1u, stats.merges.builds);
  EXPECT_GT(stats.merges.merged_steps, 10u);
}

// Others join in the next step, which is not merged, and it goes on merged
// when they have gone.
TEST_F(EngineMergeTest, OthersAreNeverHeldBack) {
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  const auto other = MakeFakeAdapter("other");
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  Ask(other);
  gate_.CloseAfter(3);
  const Request owner = Make(5, 60, hot);
  const auto owners = Submit(owner);
  gate_.WaitUntilHeld();
  const int merged = merged_launches_;
  EXPECT_GE(merged, 2);
  const Request guest = Make(5, 5, other);
  const auto guests = Submit(guest);
  // The step at hand, and the one with both.
  gate_.PassOne();
  gate_.PassOne();
  gate_.PassOne();
  EXPECT_FALSE(guests->tokens().empty());
  EXPECT_GE(mixed_launches_, 1);
  EXPECT_LE(merged_launches_, merged + 1);
  gate_.Open();
  EXPECT_TRUE(guests->Wait().status.ok());
  EXPECT_TRUE(owners->Wait().status.ok());
  EXPECT_EQ(Alone(guest).tokens, guests->tokens());
  EXPECT_EQ(Alone(owner).tokens, owners->tokens());
  EXPECT_GT(merged_launches_, merged + 10);
}

TEST_F(EngineMergeTest, NobodyIsMergedWhereItSavesNothing) {
  StartWithTimes(0);
  const auto hot = MakeFakeAdapter("hot");
  EXPECT_FALSE(AskUntil(hot, MergeState::kMerged, 100));
  EXPECT_EQ(0, builds_);
  EXPECT_GE(rehearsals_, 3);
  EXPECT_LT(rehearsals_, 60);  // of 2,000 steps
}

TEST_F(EngineMergeTest, WeightsThatGiveOtherTokensAreRefused) {
  StartWithTimes(0.2);
  runner_->difference.largest = 2 * kMergeTolerance;
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(AskUntil(hot, MergeState::kRefused));
  EXPECT_EQ(0, merged_launches_);
  EXPECT_THAT(StatusOf(*hot).record.reason, HasSubstr("allowed"));
  WaitUntilFreed();
  EXPECT_EQ(1u, engine_->Stats().merges.refused);
  EXPECT_THAT(engine_->Stats().merges.merged, IsEmpty());
  for (int i = 0; i < 20; ++i) Ask(hot);
  EXPECT_EQ(1, builds_);
}

TEST_F(EngineMergeTest, ABuildThatFailsIsNotTriedAgain) {
  StartWithTimes(0.2, [](FakeRunner* runner) {
    runner->on_merge = [](const Adapter&) { throw std::bad_alloc(); };
  });
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(AskUntil(hot, MergeState::kRefused));
  EXPECT_EQ(1u, engine_->Stats().merges.failed_builds);
  Ask(hot);
}

TEST_F(EngineMergeTest, OperatorsPinAndForbid) {
  StartWithTimes(0);
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(SetMode(MergeMode::kPinned, hot).ok());
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  Ask(hot);
  EXPECT_GT(merged_launches_, 10);
  ASSERT_TRUE(SetMode(MergeMode::kForbidden, hot).ok());
  Ask(hot);
  WaitUntilFreed();
  const int merged = merged_launches_;
  Ask(hot);
  EXPECT_EQ(merged, merged_launches_);
  EXPECT_EQ(0u, Merges().memory_used);
}

TEST_F(EngineMergeTest, PinsThatDoNotFitAreRefused) {
  StartWithTimes(0);
  ASSERT_TRUE(SetMode(MergeMode::kPinned, MakeFakeAdapter("a")).ok());
  ASSERT_TRUE(SetMode(MergeMode::kPinned, MakeFakeAdapter("b")).ok());
  const absl::Status third = SetMode(MergeMode::kPinned, MakeFakeAdapter("c"));
  EXPECT_EQ(absl::StatusCode::kResourceExhausted, third.code());
  EXPECT_EQ("MERGE_MEMORY_FULL", ReasonOf(third));
}

// An adapter that nobody has any more keeps no memory, pinned or not.
TEST_F(EngineMergeTest, WeightsOfAnAdapterThatIsGoneAreDropped) {
  options_.host_adapter_bytes = 0;  // a fake image has its adapter
  StartWithTimes(0);
  auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(SetMode(MergeMode::kPinned, hot).ok());
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  hot.reset();
  // Others take its slot.
  for (int i = 0; i < 4; ++i) {
    Ask(MakeFakeAdapter(absl::StrCat("other", i)));
  }
  clock_.Advance(std::chrono::seconds(10));
  Ask(nullptr);
  clock_.Advance(std::chrono::seconds(
      2 * static_cast<int64_t>(MergePolicy::kIdleSeconds)));
  Ask(nullptr);
  WaitUntilFreed();
}

TEST_F(EngineMergeTest, OffAndUnsupportedSaySo) {
  options_.hot_merge = false;
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  EXPECT_EQ("HOT_MERGE_OFF", ReasonOf(SetMode(MergeMode::kPinned, hot)));
  EXPECT_TRUE(SetMode(MergeMode::kAuto, hot).ok());
  EXPECT_FALSE(Merges().enabled);
  for (int i = 0; i < 50; ++i) Ask(hot);
  EXPECT_EQ(0, rehearsals_);
}

TEST_F(EngineMergeTest, ARunnerThatCannotMergeServesAsEver) {
  runner_options_.merges = false;
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  const absl::Status status = SetMode(MergeMode::kPinned, hot);
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, status.code());
  EXPECT_EQ("MERGE_UNSUPPORTED", ReasonOf(status));
  EXPECT_TRUE(Merges().enabled);
  EXPECT_THAT(Merges().unavailable, HasSubstr("not a runner that merges"));
  for (int i = 0; i < 50; ++i) Ask(hot);
  EXPECT_EQ(0, rehearsals_);
}

// A runner whose steps overlap, and a step in pieces.
TEST_F(EngineMergeTest, StepsInFlightAndStepsThatFail) {
  runner_options_.overlaps = true;
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  for (int round = 0; round < 20; ++round) {
    std::vector<Request> requests;
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (int i = 0; i < 4; ++i) {
      requests.push_back(
          Make(5 + i, 10 + round, round % 3 == 2 && i == 3 ? nullptr : hot));
      sinks.push_back(Submit(requests.back()));
    }
    const MergeMode modes[] = {MergeMode::kPinned, MergeMode::kAuto,
                               MergeMode::kAuto, MergeMode::kForbidden};
    ASSERT_TRUE(SetMode(modes[round % 4], hot).ok());
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->Wait().status.ok());
      EXPECT_EQ(Alone(requests[i]).tokens, sinks[i]->tokens());
    }
  }
  EXPECT_GT(merged_launches_, 50);
  EXPECT_GT(engine_->Stats().steps_ahead, 50u);
}

// A part of a step is not compared with the whole.
TEST_F(EngineMergeTest, AComparedStepThatFailsSaysNothing) {
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  // Built, and no step of its own yet.
  ASSERT_TRUE(SetMode(MergeMode::kPinned, hot).ok());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (StatusOf(*hot).record.state != MergeState::kChecking &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  runner_->difference.largest = 2 * kMergeTolerance;
  std::atomic<int> rehearsed{0};
  runner_->on_rehearse = [&](const Batch& batch, const MergedWeights*) {
    ++rehearsed;
    runner_->failing_requests.insert(batch.sequences.front().id);
  };
  const Request request = Make(5, 10, hot);
  EXPECT_FALSE(Submit(request)->Wait().status.ok());
  WaitUntilIdle();
  EXPECT_GT(rehearsed, 0);
  EXPECT_EQ(MergeState::kChecking, StatusOf(*hot).record.state);
}

TEST_F(EngineMergeTest, AMergedStepThatFailsIsRunInPartsAndMerged) {
  StartWithTimes(0.2);
  const auto hot = MakeFakeAdapter("hot");
  ASSERT_TRUE(AskUntil(hot, MergeState::kMerged));
  gate_.Close();
  const Request bad = Make(5, 10, hot);
  const Request good = Make(5, 10, hot);
  const auto first = Submit(good);
  gate_.WaitUntilHeld();
  runner_->failing_requests.insert(bad.id);
  const auto second = Submit(bad);
  gate_.Open();
  EXPECT_FALSE(second->Wait().status.ok());
  EXPECT_TRUE(first->Wait().status.ok());
  EXPECT_EQ(Alone(good).tokens, first->tokens());
}

}  // namespace
}  // namespace descant
