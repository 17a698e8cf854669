#include "server/merge_message.h"

#include <gtest/gtest.h>

#include "runtime/base/reason.h"

namespace descant {
namespace {

MergeReport Report() {
  MergeReport report;
  report.enabled = true;
  report.memory_used = 10;
  report.memory_capacity = 40;
  MergeStatus& status = report.adapters.emplace_back();
  status.tenant = "acme";
  status.name = "a";
  MergeRecord& record = status.record;
  record.key = AdapterKey("acme", "sha256:aa");
  record.mode = MergeMode::kPinned;
  record.state = MergeState::kMerged;
  record.reason = "holds";
  record.bytes = 10;
  record.gain = 0.125;
  record.samples = 7;
  record.alone_seconds = 90.5;
  record.recent_seconds = 30;
  record.merged_steps = 4000;
  record.builds = 2;
  record.build_seconds = 0.25;
  record.measure_seconds = 1.5;
  record.saved_seconds = -3;
  status.check.outputs = 5;
  status.check.largest = 0.0625f;
  status.check.flips = 1;
  status.check.widest_flip = 0.03125f;
  report.history.push_back({1700000000.5, "acme", "a", "sha256:aa",
                            MergeState::kBuilding, "an operator pinned it"});
  return report;
}

TEST(MergeMessageTest, SaysAllOfTheReport) {
  v1::ListMergesResponse response;
  DescribeMerges(Report(), &response);
  EXPECT_TRUE(response.enabled());
  EXPECT_EQ(response.unavailable_reason(), "");
  EXPECT_EQ(response.memory_used_bytes(), 10u);
  EXPECT_EQ(response.memory_capacity_bytes(), 40u);
  ASSERT_EQ(response.adapters_size(), 1);
  const v1::MergeStatus& status = response.adapters(0);
  EXPECT_EQ(status.tenant(), "acme");
  EXPECT_EQ(status.name(), "a");
  EXPECT_EQ(status.digest(), "sha256:aa");
  EXPECT_EQ(status.mode(), v1::MERGE_MODE_PINNED);
  EXPECT_EQ(status.state(), v1::MERGE_STATE_MERGED);
  EXPECT_EQ(status.reason(), "holds");
  EXPECT_EQ(status.merged_bytes(), 10u);
  EXPECT_EQ(status.gain(), 0.125);
  EXPECT_EQ(status.gain_samples(), 7u);
  EXPECT_EQ(status.alone_time().seconds(), 90);
  EXPECT_EQ(status.alone_time().nanos(), 500000000);
  EXPECT_EQ(status.recent_time().seconds(), 30);
  EXPECT_EQ(status.merged_steps(), 4000u);
  EXPECT_EQ(status.builds(), 2u);
  EXPECT_EQ(status.build_time().nanos(), 250000000);
  EXPECT_EQ(status.measure_time().seconds(), 1);
  EXPECT_EQ(status.saved_seconds(), -3);
  EXPECT_EQ(status.check().outputs(), 5u);
  EXPECT_EQ(status.check().largest_difference(), 0.0625);
  EXPECT_EQ(status.check().flips(), 1u);
  EXPECT_EQ(status.check().widest_flip(), 0.03125);
  ASSERT_EQ(response.history_size(), 1);
  const v1::MergeEvent& event = response.history(0);
  EXPECT_EQ(event.time().seconds(), 1700000000);
  EXPECT_EQ(event.time().nanos(), 500000000);
  EXPECT_EQ(event.tenant(), "acme");
  EXPECT_EQ(event.name(), "a");
  EXPECT_EQ(event.digest(), "sha256:aa");
  EXPECT_EQ(event.state(), v1::MERGE_STATE_BUILDING);
  EXPECT_EQ(event.reason(), "an operator pinned it");
}

TEST(MergeMessageTest, WhatWasNotMeasuredIsAbsent) {
  MergeReport report = Report();
  report.adapters[0].record.gain.reset();
  report.adapters[0].check = {};
  v1::ListMergesResponse response;
  DescribeMerges(report, &response);
  EXPECT_FALSE(response.adapters(0).has_gain());
  EXPECT_FALSE(response.adapters(0).has_check());
}

TEST(MergeMessageTest, OneAdapterIsFoundByTenantAndDigest) {
  Adapter adapter;
  adapter.tenant = "acme";
  adapter.name = "b";
  adapter.digest = "sha256:aa";
  v1::MergeStatus status;
  DescribeMerge(Report(), adapter, &status);
  EXPECT_EQ(status.state(), v1::MERGE_STATE_MERGED);
  adapter.tenant = "globex";
  status.Clear();
  DescribeMerge(Report(), adapter, &status);
  EXPECT_EQ(status.tenant(), "globex");
  EXPECT_EQ(status.name(), "b");
  EXPECT_EQ(status.mode(), v1::MERGE_MODE_AUTO);
  EXPECT_EQ(status.state(), v1::MERGE_STATE_UNMERGED);
  EXPECT_EQ(status.reason(), "had no steps for itself");
}

TEST(MergeMessageTest, ModesThatAreNone) {
  EXPECT_EQ(*MergeModeOf(v1::MERGE_MODE_FORBIDDEN), MergeMode::kForbidden);
  for (const int mode : {0, 4, -1}) {
    const auto parsed = MergeModeOf(static_cast<v1::MergeMode>(mode));
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << mode;
    EXPECT_EQ(FieldOf(parsed.status()), "mode");
  }
}

}  // namespace
}  // namespace descant
