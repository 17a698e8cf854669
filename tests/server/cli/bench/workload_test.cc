#include "server/cli/bench/workload.h"

#include <gtest/gtest.h>

#include <set>

namespace descant::cli {
namespace {

std::vector<Leg> Legs(const char* name) {
  auto legs = WorkloadLegs(name);
  EXPECT_TRUE(legs.ok()) << legs.status();
  return legs.ok() ? *legs : std::vector<Leg>{};
}

TEST(WorkloadTest, AsDocumented) {
  const Leg base = Legs("W-base").at(0);
  EXPECT_EQ(base.requests, 64);
  EXPECT_EQ(base.in_flight, 32);
  EXPECT_EQ(base.adapters, 0);
  EXPECT_EQ(Legs("W-one").at(0).adapters, 1);
  const Leg mixed = Legs("W-mixed").at(0);
  EXPECT_EQ(mixed.adapters, 32);
  EXPECT_EQ(mixed.shape, (AdapterShape{.rank = 8, .all_linear = false}));
  EXPECT_EQ(Legs("W-wide").at(0).shape,
            (AdapterShape{.rank = 16, .all_linear = true}));
  EXPECT_EQ(Legs("W-single").size(), 2u);
  EXPECT_EQ(Legs("W-single").at(1).in_flight, 1);
  EXPECT_EQ(Legs("W-eight").at(1).adapters, 8);
  EXPECT_EQ(Legs("W-eight").at(0).requests, 16);
  EXPECT_EQ(WorkloadLegs("W-none").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(WorkloadTest, RequestsAreFreshAndRepeatable) {
  const Leg leg = Legs("W-mixed").at(0);
  const auto first = LegRequests(leg, 1, 0, 1000);
  const auto again = LegRequests(leg, 1, 0, 1000);
  ASSERT_EQ(first.size(), 64u);
  std::set<std::string> prompts;
  for (const uint64_t stream : {0, 1}) {
    for (const auto& request : LegRequests(leg, 1, stream, 1000)) {
      prompts.insert(request.token_ids().SerializeAsString());
    }
  }
  EXPECT_EQ(prompts.size(), 128u);
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(first[i].SerializeAsString(), again[i].SerializeAsString());
    EXPECT_EQ(first[i].adapter_id(), BenchAdapterName(leg.shape, i % 32));
    ASSERT_EQ(first[i].token_ids().ids_size(), kPromptTokens);
    for (const int64_t id : first[i].token_ids().ids()) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, 1000);
    }
    EXPECT_EQ(first[i].stopping().max_tokens(), kOutputTokens);
    EXPECT_TRUE(first[i].stopping().ignore_eos());
    EXPECT_EQ(first[i].sampling().temperature(), 0);
  }
}

}  // namespace
}  // namespace descant::cli
