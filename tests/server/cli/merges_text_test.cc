// What `descant merges` prints, whole.
#include "server/cli/merges_text.h"

#include <gtest/gtest.h>

#include <string>

namespace descant::cli {
namespace {

v1::ListMergesResponse Merges() {
  v1::ListMergesResponse merges;
  merges.set_enabled(true);
  merges.set_memory_used_bytes(212'000'000);
  merges.set_memory_capacity_bytes(425'000'000);
  v1::MergeStatus* pirate = merges.add_adapters();
  pirate->set_name("pirate");
  pirate->set_digest("sha256:0123456789abcdef0123");
  pirate->set_mode(v1::MERGE_MODE_PINNED);
  pirate->set_state(v1::MERGE_STATE_MERGED);
  pirate->set_reason("holds");
  pirate->set_merged_bytes(212'000'000);
  pirate->set_gain(0.1234);
  pirate->set_gain_samples(7);
  pirate->mutable_alone_time()->set_seconds(90);
  pirate->mutable_alone_time()->set_nanos(500'000'000);
  pirate->mutable_recent_time()->set_seconds(30);
  pirate->set_merged_steps(4000);
  pirate->set_builds(1);
  pirate->mutable_build_time()->set_nanos(250'000'000);
  pirate->set_saved_seconds(-0.5);
  pirate->mutable_check()->set_outputs(5);
  pirate->mutable_check()->set_largest_difference(0.0625);
  v1::MergeStatus* sql = merges.add_adapters();
  sql->set_tenant("acme");
  sql->set_name("s\x1b[2Jql");
  sql->set_digest("sha256:ff");
  sql->set_mode(v1::MERGE_MODE_AUTO);
  sql->set_state(v1::MERGE_STATE_UNMERGED);
  sql->set_reason("too few steps");
  v1::MergeEvent* event = merges.add_history();
  event->mutable_time()->set_seconds(1'700'000'000);
  event->set_name("pirate");
  event->set_digest("sha256:0123456789abcdef0123");
  event->set_state(v1::MERGE_STATE_BUILDING);
  event->set_reason("an operator pinned it");
  return merges;
}

TEST(MergesTextTest, ATableOfTheAdapters) {
  EXPECT_EQ(
      RenderMerges(Merges()),
      "merged weights take 212 MB of 425 MB\n"
      "adapter       digest               state     mode      gain   saved  "
      "merged steps   alone  recent  builds  check  memory  reason\n"
      "pirate        sha256:0123456789ab  merged    pinned  12.3 %  -0.5 s  "
      "        4000  90.5 s  30.0 s       1  0.062  212 MB  holds\n"
      "acme/s?[2Jql  sha256:ff            unmerged  auto         -   0.0 s  "
      "           0   0.0 s   0.0 s       0      -     0 B  too few steps\n");
}

TEST(MergesTextTest, WhyNothingIsMerged) {
  v1::ListMergesResponse merges;
  EXPECT_EQ(RenderMerges(merges),
            "hot merge is off: the server runs with --hot-merge=off\n");
  merges.set_enabled(true);
  merges.set_unavailable_reason("int8 weights\x1b");
  EXPECT_EQ(RenderMerges(merges), "hot merge is off: int8 weights\n");
}

TEST(MergesTextTest, ATableOfWhatHappened) {
  EXPECT_EQ(RenderMergeHistory(Merges()),
            "time                  adapter  digest               state     "
            "reason\n"
            "2023-11-14T22:13:20Z  pirate   sha256:0123456789ab  building  an "
            "operator pinned it\n");
}

TEST(MergesTextTest, Json) {
  const Json json = MergesJson(Merges());
  EXPECT_EQ(json["enabled"], true);
  EXPECT_EQ(json["memory_capacity_bytes"], 425'000'000);
  ASSERT_EQ(json["adapters"].size(), 2u);
  const auto& pirate = json["adapters"][0];
  EXPECT_EQ(pirate["state"], "merged");
  EXPECT_EQ(pirate["mode"], "pinned");
  EXPECT_EQ(pirate["gain"], 0.1234);
  EXPECT_EQ(pirate["alone_seconds"], 90.5);
  EXPECT_EQ(pirate["build_seconds"], 0.25);
  EXPECT_EQ(pirate["check"]["outputs"], 5);
  const auto& sql = json["adapters"][1];
  EXPECT_EQ(sql["tenant"], "acme");
  EXPECT_TRUE(sql["gain"].is_null());
  EXPECT_TRUE(sql["check"].is_null());
  ASSERT_EQ(json["history"].size(), 1u);
  EXPECT_EQ(json["history"][0]["time"], "2023-11-14T22:13:20Z");
  EXPECT_EQ(json["history"][0]["state"], "building");
}

}  // namespace
}  // namespace descant::cli
