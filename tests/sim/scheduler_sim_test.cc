// Seeded simulation of scheduler, blocks and slots against the toy model of
// FakeRunner: requests for one to five answers, scored prompts, arrivals,
// aborts, deadlines, pauses, exhaustion, preemption, adapters that load slowly,
// not at all or do not fit, are pinned or unloaded, tenants with many cold
// ones, drafts that are right or wrong, numeric faults, failed steps, with and
// without a step in flight. Each sequence must give the tokens it gives alone,
// everything must be back at the end, a tenant with at most its share of the
// slots never loses an idle one to another tenant, and no two backlogged
// tenants are further apart than the fairness bound (fairness_bound.h).
//
// DESCANT_SIM_SEED=n runs one seed; DESCANT_SIM_SEEDS=n runs n of them,
// from DESCANT_SIM_FIRST on.
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "gtest/gtest.h"
#include "tests/sim/regression_seeds.h"
#include "tests/sim/simulation.h"

namespace descant {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What the seeds reached together.
struct Reached {
  uint64_t preemptions = 0;
  uint64_t several = 0;
  uint64_t shared = 0;
  uint64_t cached = 0;
  uint64_t loaded = 0;
  uint64_t taken = 0;
  uint64_t unloaded = 0;
  uint64_t drafts = 0;
  uint64_t accepted = 0;
  uint64_t bounds = 0;
  double closest = 0;
};

// False: it failed.
bool RunSeed(uint64_t seed, Reached* reached) {
  SCOPED_TRACE(absl::StrCat("replay: DESCANT_SIM_SEED=", seed,
                            " build/release/tests/scheduler_sim_test"));
  Simulation simulation(seed);
  simulation.Run();
  reached->preemptions += simulation.preemptions();
  reached->several += simulation.several_done();
  reached->loaded += simulation.loaded();
  reached->shared += simulation.shared();
  reached->cached += simulation.cached();
  reached->taken += simulation.taken();
  reached->unloaded += simulation.unloaded();
  reached->drafts += simulation.speculation().draft_tokens;
  reached->accepted += simulation.speculation().accepted_draft_tokens;
  reached->bounds += simulation.bounds_checked();
  reached->closest = std::max(reached->closest, simulation.closest_to_bound());
  return !testing::Test::HasFailure();
}

TEST(SchedulerSim, SeedsThatOnceFailed) {
  Reached reached;
  for (const uint64_t seed : kRegressionSeeds) RunSeed(seed, &reached);
}

TEST(SchedulerSim, EverySequenceIsAsAlone) {
  const uint64_t only = FromEnvironment("DESCANT_SIM_SEED", 0);
  const uint64_t first =
      only == 0 ? FromEnvironment("DESCANT_SIM_FIRST", 1) : only;
  const uint64_t count =
      only == 0 ? FromEnvironment("DESCANT_SIM_SEEDS", 2000) : 1;
  Reached reached;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    if (!RunSeed(seed, &reached)) break;
  }
  std::cout << "preemptions: " << reached.preemptions
            << ", answers of several to a request: " << reached.several
            << ", shared blocks: " << reached.shared
            << ", cached tokens: " << reached.cached
            << ", loads: " << reached.loaded
            << ", slots taken from other tenants: " << reached.taken
            << ", unloads: " << reached.unloaded
            << ", drafts: " << reached.drafts
            << ", of them right: " << reached.accepted
            << ", passes of two backlogged tenants: " << reached.bounds
            << ", their closest to the fairness bound: " << reached.closest
            << "\n";
  // The simulation must reach what it is there for.
  if (count > 1000) {
    EXPECT_GT(reached.preemptions, 1000u);
    EXPECT_GT(reached.several, 1000u);
    EXPECT_GT(reached.shared, 1000u);
    EXPECT_GT(reached.cached, 1000u);
    EXPECT_GT(reached.taken, 1000u);
    EXPECT_GT(reached.unloaded, 1000u);
    EXPECT_GT(reached.accepted, 10000u);
    EXPECT_GT(reached.drafts - reached.accepted, 10000u);
    EXPECT_GT(reached.bounds, 10000u);
    EXPECT_GT(reached.closest, 0.2);
  }
}

}  // namespace
}  // namespace descant
