#include "server/cli/top/top_stats.h"

#include <gtest/gtest.h>

#include "tests/server/cli/top/top_fixture.h"

namespace descant::cli {
namespace {

TEST(TopStatsTest, RatesAreDifferencesOverTheServersOwnTime) {
  const v1::GetStatsResponse before = EarlierStats();
  const TopStats stats = TopStatsOf(&before, LaterStats());
  EXPECT_DOUBLE_EQ(stats.interval, 2);  // 3751.5 to 3753.5
  EXPECT_DOUBLE_EQ(*stats.prompt_tokens, 1234);
  EXPECT_DOUBLE_EQ(*stats.generated_tokens, 500);
  EXPECT_DOUBLE_EQ(*stats.steps, 45);
  EXPECT_DOUBLE_EQ(*stats.rows_per_step, 22);
  EXPECT_DOUBLE_EQ(*stats.adapter_loads, 1.5);
  EXPECT_DOUBLE_EQ(*stats.cached, 0.5);
  EXPECT_EQ(stats.running, 12);
}

TEST(TopStatsTest, SharesCountAsFairnessDoesAmongThoseWithSomethingToDo) {
  const v1::GetStatsResponse before = EarlierStats();
  const TopStats stats = TopStatsOf(&before, LaterStats());
  ASSERT_EQ(stats.tenants.size(), 3u);
  // The busiest first.
  const TopTenant& acme = stats.tenants[0];
  const TopTenant& zeta = stats.tenants[1];
  const TopTenant& idle = stats.tenants[2];
  EXPECT_EQ(acme.name, "acme");
  EXPECT_DOUBLE_EQ(*acme.share, 0.9);  // 1800 of 2000
  EXPECT_DOUBLE_EQ(*acme.weight_share, 0.75);
  EXPECT_DOUBLE_EQ(*acme.cached, 0.5);
  EXPECT_DOUBLE_EQ(*acme.generated_tokens, 325);
  EXPECT_EQ(zeta.name, "zeta");
  EXPECT_DOUBLE_EQ(*zeta.share, 0.1);
  EXPECT_DOUBLE_EQ(*zeta.weight_share, 0.25);
  EXPECT_DOUBLE_EQ(*zeta.refused, 12.5);
  EXPECT_FALSE(zeta.cached.has_value());
  EXPECT_EQ(idle.name, "idle");
  EXPECT_FALSE(idle.share.has_value());
  EXPECT_FALSE(idle.weight_share.has_value());
  EXPECT_DOUBLE_EQ(*idle.generated_tokens, 0);
}

TEST(TopStatsTest, WithoutAnAnswerBeforeThereAreNoRates) {
  const TopStats stats = TopStatsOf(nullptr, LaterStats());
  EXPECT_EQ(stats.interval, 0);
  EXPECT_FALSE(stats.generated_tokens.has_value());
  EXPECT_FALSE(stats.tenants[0].share.has_value());
  EXPECT_EQ(stats.running, 12);
  EXPECT_EQ(stats.adapters.size(), 2u);
}

TEST(TopStatsTest, ARestartedServerHasNoRatesYet) {
  const v1::GetStatsResponse before = LaterStats();
  v1::GetStatsResponse after;
  after.mutable_uptime()->set_seconds(4000);
  after.set_steps(5);
  after.set_generated_tokens(7);
  EXPECT_FALSE(TopStatsOf(&before, after).generated_tokens.has_value());
  // The same answer twice: no time has passed.
  EXPECT_FALSE(TopStatsOf(&before, before).generated_tokens.has_value());
}

TEST(TopStatsTest, ATenantThatIsNewCountsFromZeroAndAFallingCounterIsZero) {
  v1::GetStatsResponse before = EarlierStats();
  v1::GetStatsResponse after = LaterStats();
  AddTenant("new", 2, &after)->set_generated_tokens(8);
  before.mutable_tenants(0)->set_generated_tokens(1 << 30);
  const TopStats stats = TopStatsOf(&before, after);
  ASSERT_EQ(stats.tenants.size(), 4u);
  EXPECT_EQ(stats.tenants[0].name, "acme");
  EXPECT_DOUBLE_EQ(*stats.tenants[0].generated_tokens, 0);
  EXPECT_EQ(stats.tenants[2].name, "new");
  EXPECT_DOUBLE_EQ(*stats.tenants[2].generated_tokens, 4);
}

TEST(TopStatsTest, JsonHasAllOfItAndNullWhereNothingIsKnown) {
  const v1::GetStatsResponse before = EarlierStats();
  const Json json = TopJson(TopStatsOf(&before, LaterStats()));
  EXPECT_EQ(json["interval_s"], 2.0);
  EXPECT_EQ(json["generated_tokens_per_s"], 500.0);
  EXPECT_EQ(json["kv_blocks_cached"], 256);
  EXPECT_EQ(json["tenants"][0]["tenant"], "acme");
  EXPECT_EQ(json["tenants"][0]["share"], 0.9);
  EXPECT_EQ(json["tenants"][0]["adapter_slots_used"], 12);
  EXPECT_EQ(json["tenants"][1]["refused_per_s"], 12.5);
  EXPECT_TRUE(json["tenants"][2]["share"].is_null());
  EXPECT_EQ(json["adapters"][0]["name"], "acme/pirate");
  EXPECT_EQ(json["adapters"][1]["level"], "disk");
  EXPECT_TRUE(
      TopJson(TopStatsOf(nullptr, LaterStats()))["steps_per_s"].is_null());
}

}  // namespace
}  // namespace descant::cli
