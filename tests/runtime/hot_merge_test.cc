// HotMerge over a runner whose steps take what the test says.
#include "runtime/hot_merge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/reason.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_runner.h"

namespace descant {
namespace {

constexpr uint64_t kBytes = 100;
constexpr auto kUnmergedStep = std::chrono::milliseconds(10);
constexpr auto kMergedStep = std::chrono::milliseconds(8);
constexpr auto kPatience = std::chrono::seconds(20);

class FakeWeights final : public MergedWeights {
 public:
  uint64_t bytes() const override { return kBytes; }
};

// Merges; computes nothing.
class MergingRunner final : public Runner {
 public:
  explicit MergingRunner(FakeClock* clock) : clock_(clock) {}

  absl::Status can_merge() const override { return absl::OkStatus(); }
  uint64_t MergedBytes(const Adapter& adapter) const override { return kBytes; }
  uint64_t MostMergedBytes() const override { return kBytes; }
  absl::StatusOr<std::shared_ptr<const MergedWeights>> MergeAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override {
    if (!builds.ok()) return builds;
    return std::make_shared<FakeWeights>();
  }
  absl::Status Rehearse(const Batch& batch,
                        const MergedWeights* merged) override {
    clock_->Advance(kMergedStep);
    return absl::OkStatus();
  }
  absl::StatusOr<LogprobDifference> CompareWithRehearsal() override {
    return difference;
  }

  absl::Status Launch(const Batch& batch) override { return Unused(); }
  absl::StatusOr<const StepOutput*> Collect() override { return Unused(); }
  absl::StatusOr<std::shared_ptr<const AdapterImage>> PackAdapter(
      const std::shared_ptr<const Adapter>& adapter) const override {
    return Unused();
  }
  absl::Status LoadImage(
      int32_t slot, const std::shared_ptr<const AdapterImage>& image) override {
    return Unused();
  }
  void UnloadAdapter(int32_t slot) override {}
  AdapterMemory adapter_memory() const override { return {}; }
  uint64_t AdapterBytes(const Adapter& adapter) const override { return 1; }
  int32_t num_blocks() const override { return 1; }
  const BatchLimits& limits() const override { return limits_; }
  std::string Describe() const override { return "merging"; }

  // Set while nothing is built.
  absl::Status builds;
  LogprobDifference difference = {.outputs = 1, .largest = 0.125f};

 private:
  static absl::Status Unused() { return absl::UnimplementedError("unused"); }

  FakeClock* const clock_;
  const BatchLimits limits_;
};

class HotMergeTest : public ::testing::Test {
 protected:
  HotMergeTest() {
    batch_.tokens = {5};
    batch_.positions = {0};
    batch_.output_rows = {0};
    batch_.segments = {{.row_begin = 0, .row_end = 1, .slot = 0}};
  }
  ~HotMergeTest() override { merge_.Stop(); }

  // A step of the adapter's own.
  void Step(const std::shared_ptr<const Adapter>& adapter) {
    batch_.merged = merge_.PlanStep(batch_, adapter);
    const Duration took =
        batch_.merged != nullptr ? Duration(kMergedStep) : kUnmergedStep;
    clock_.Advance(took);
    merge_.StepEnded(batch_, ToSeconds(took));
    merge_.Advance();
  }
  // Builds take time that the clock does not show.
  bool StepUntil(const std::shared_ptr<const Adapter>& adapter,
                 const std::function<bool(const MergeStatus&)>& done) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (done(StatusOf(*adapter))) return true;
      Step(adapter);
    }
    return false;
  }
  bool StepUntilMerged(const std::shared_ptr<const Adapter>& adapter) {
    return StepUntil(adapter, [](const MergeStatus& status) {
      return status.record.state == MergeState::kMerged;
    });
  }
  MergeStatus StatusOf(const Adapter& adapter) {
    for (const MergeStatus& status : merge_.Report().adapters) {
      if (SameKey(status.record.key, KeyOf(adapter))) return status;
    }
    return {};
  }
  MergeStats Stats() {
    MergeStats stats;
    merge_.UpdateStats(&stats);
    return stats;
  }

  FakeClock clock_;
  MergingRunner runner_{&clock_};
  // Room for one adapter.
  HotMerge merge_{&runner_, &clock_, kBytes + kBytes / 2, [] {}};
  Batch batch_;
};

TEST_F(HotMergeTest, APinIsBuiltCheckedAndUsed) {
  const auto adapter = MakeFakeAdapter("a", "acme");
  ASSERT_TRUE(merge_.SetMode(MergeMode::kPinned, adapter).ok());
  EXPECT_EQ(StatusOf(*adapter).record.state, MergeState::kBuilding);
  EXPECT_EQ(Stats().memory_used, kBytes);
  ASSERT_TRUE(StepUntilMerged(adapter));
  const MergeStatus status = StatusOf(*adapter);
  EXPECT_EQ(status.name, "a");
  EXPECT_GT(status.check.outputs, 0);
  EXPECT_EQ(status.check.largest, 0.125f);
  Step(adapter);
  EXPECT_NE(batch_.merged, nullptr);
  const MergeStats stats = Stats();
  EXPECT_EQ(stats.builds, 1u);
  EXPECT_EQ(stats.merged_steps, 1u);
  EXPECT_EQ(stats.switches, 1u);
  ASSERT_EQ(stats.merged.size(), 1u);
  EXPECT_EQ(stats.merged[0].label, "acme/a");
  EXPECT_EQ(stats.merged[0].digest, adapter->digest);
  EXPECT_FALSE(stats.merged[0].gain.has_value()) << "never measured";

  ASSERT_TRUE(merge_.SetMode(MergeMode::kForbidden, adapter).ok());
  EXPECT_EQ(StatusOf(*adapter).record.state, MergeState::kUnmerged);
  EXPECT_TRUE(Stats().merged.empty());
  EXPECT_EQ(Stats().memory_used, 0u);
  Step(adapter);
  EXPECT_EQ(batch_.merged, nullptr);
}

TEST_F(HotMergeTest, CountsWhatMergedStepsSave) {
  const auto adapter = MakeFakeAdapter("a");
  ASSERT_TRUE(StepUntil(adapter, [](const MergeStatus& status) {
    return status.record.gain.has_value();
  }));
  ASSERT_TRUE(merge_.SetMode(MergeMode::kPinned, adapter).ok());
  ASSERT_TRUE(StepUntilMerged(adapter));
  for (int i = 0; i < 500; ++i) Step(adapter);
  const MergeStats stats = Stats();
  ASSERT_EQ(stats.merged.size(), 1u);
  EXPECT_NEAR(stats.merged[0].gain.value_or(0), 0.2, 0.01);
  // Half a second at least: each step of 8 ms saves 2.
  EXPECT_GT(stats.saved_seconds, 0.5);
  ASSERT_TRUE(merge_.SetMode(MergeMode::kForbidden, adapter).ok());
  EXPECT_NEAR(Stats().saved_seconds, StatusOf(*adapter).record.saved_seconds,
              1e-9)
      << "all of it once the weights are dropped";
}

TEST_F(HotMergeTest, OtherTokensAreRefused) {
  const auto adapter = MakeFakeAdapter("a");
  runner_.difference.largest = 2 * kMergeTolerance;
  ASSERT_TRUE(merge_.SetMode(MergeMode::kPinned, adapter).ok());
  ASSERT_TRUE(StepUntil(adapter, [](const MergeStatus& status) {
    return status.record.state == MergeState::kRefused;
  }));
  EXPECT_EQ(Stats().refused, 1u);
  EXPECT_EQ(Stats().memory_used, 0u);
}

// A pin takes memory from other pins, whether it has weights or not.
TEST_F(HotMergeTest, WishesEndWithTheAdapter) {
  auto gone = MakeFakeAdapter("gone");
  const auto other = MakeFakeAdapter("other");
  runner_.builds = absl::DataLossError("no tensors");
  ASSERT_TRUE(merge_.SetMode(MergeMode::kPinned, gone).ok());
  ASSERT_TRUE(StepUntil(gone, [](const MergeStatus& status) {
    return status.record.state == MergeState::kRefused;
  }));
  EXPECT_EQ(Stats().failed_builds, 1u);
  runner_.builds = absl::OkStatus();
  EXPECT_EQ(ReasonOf(merge_.SetMode(MergeMode::kPinned, other)),
            "MERGE_MEMORY_FULL");
  gone.reset();
  clock_.Advance(std::chrono::seconds(10));
  merge_.Advance();
  ASSERT_TRUE(merge_.SetMode(MergeMode::kPinned, other).ok());
  EXPECT_TRUE(StepUntilMerged(other));
}

TEST_F(HotMergeTest, ReportsByTenantAndName) {
  std::vector<std::shared_ptr<const Adapter>> adapters;
  for (const char* name : {"c", "a", "d", "b"}) {
    adapters.push_back(MakeFakeAdapter(name));
    Step(adapters.back());
  }
  std::string names;
  for (const MergeStatus& status : merge_.Report().adapters) {
    names += status.name;
  }
  EXPECT_EQ(names, "abcd");
}

}  // namespace
}  // namespace descant
