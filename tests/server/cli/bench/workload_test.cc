#include "server/cli/bench/workload.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

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
  EXPECT_EQ(Legs("W-many").at(0).in_flight, 64);
  EXPECT_EQ(Legs("W-many").at(1).adapters, 64);
  ASSERT_EQ(Legs("W-scale").size(), 3u);
  const Leg scale = Legs("W-scale-10000").at(0);
  EXPECT_EQ(scale.name, Legs("W-scale").at(2).name);
  EXPECT_EQ(scale.registered, 10000);
  EXPECT_EQ(scale.adapters, kFullAdapters);
  EXPECT_EQ(scale.shape, mixed.shape);
  EXPECT_EQ(scale.requests, mixed.requests);
  ASSERT_EQ(Legs("W-open").size(), 3u);
  EXPECT_TRUE(Legs("W-open").at(0).saturates);
  EXPECT_EQ(Legs("W-open").at(2).open_share, 0.8);
  EXPECT_EQ(Legs("W-unused").at(0).server_flags.size(), 1u);
  EXPECT_EQ(Legs("W-unused").at(1).idle_adapters, 32);
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

// A leg and its twin: the same requests but for speculation.
TEST(WorkloadTest, TwinsDifferInSpeculationAlone) {
  const std::vector<Leg> legs = Legs("W-copy");
  ASSERT_EQ(legs.size(), 4u);
  EXPECT_EQ(WithTwins(Legs("W-single")).size(), 4u);
  std::set<std::string> prompts;
  for (size_t i = 0; i < legs.size(); i += 2) {
    EXPECT_TRUE(legs[i + 1].twin);
    const auto plain = LegRequests(legs[i], 1, 5, 1000);
    auto drafts = LegRequests(legs[i + 1], 1, 5, 1000);
    ASSERT_EQ(plain.size(), drafts.size());
    for (size_t k = 0; k < plain.size(); ++k) {
      EXPECT_EQ(plain[k].max_draft_tokens(), 0);
      EXPECT_TRUE(plain[k].has_max_draft_tokens());
      EXPECT_TRUE(plain[k].bypass_prefix_cache());
      EXPECT_FALSE(drafts[k].has_max_draft_tokens());
      drafts[k].set_max_draft_tokens(0);
      EXPECT_EQ(plain[k].SerializeAsString(), drafts[k].SerializeAsString());
      if (i == 0) prompts.insert(plain[k].text());
    }
  }
  EXPECT_EQ(prompts.size(), 8u);
  EXPECT_EQ(LegRequests(Legs("W-base")[0], 1, 0, 1000)[0].max_draft_tokens(),
            0);
}

// The k-th of n is drawn with probability 1 / (k H(n)).
TEST(WorkloadTest, ZipfDrawsTheFirstMostOften) {
  Leg leg = Legs("W-scale-1000").at(0);
  leg.requests = 20000;
  std::map<std::string, int> drawn;
  for (const auto& request : LegRequests(leg, 3, 0, 1000)) {
    ++drawn[request.adapter_id()];
  }
  double harmonic = 0;
  for (int k = 1; k <= 1000; ++k) harmonic += 1.0 / k;
  for (const int k : {1, 2, 10}) {
    const double expected = leg.requests / (k * harmonic);
    EXPECT_NEAR(drawn[BenchAdapterName(leg.shape, k - 1)], expected,
                5 * std::sqrt(expected));
  }
  EXPECT_GT(drawn.size(), 900u);
  EXPECT_LE(drawn.size(), 1000u);
}

TEST(WorkloadTest, PoissonArrivals) {
  constexpr int kCount = 20000;
  const std::vector<double> times = PoissonArrivals(kCount, 50, 9, 1);
  ASSERT_EQ(times.size(), static_cast<size_t>(kCount));
  EXPECT_EQ(times[0], 0);
  EXPECT_EQ(times, PoissonArrivals(kCount, 50, 9, 1));
  EXPECT_NE(times, PoissonArrivals(kCount, 50, 9, 2));
  // Mean and variance of the gaps are 1/50 and its square.
  double sum = 0, squares = 0;
  for (int i = 1; i < kCount; ++i) {
    const double gap = times[i] - times[i - 1];
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / (kCount - 1);
  EXPECT_NEAR(mean, 0.02, 0.0006);
  EXPECT_NEAR(squares / (kCount - 1) - mean * mean, 0.0004, 0.00004);
}

}  // namespace
}  // namespace descant::cli
