// Seeded simulation of scheduler, blocks and slots against the toy model of
// FakeRunner: requests for one to five answers, scored prompts, arrivals,
// aborts, deadlines, pauses, exhaustion, preemption, adapters that load slowly,
// not at all or do not fit, are pinned or unloaded, tenants with many cold
// ones, numeric faults, failed steps, with and without a step in flight. Each
// sequence must give the tokens it gives alone, everything must be back at the
// end, and a tenant with at most an equal share of the slots never loses an
// idle one to another tenant.
//
// DESCANT_SIM_SEED=n runs one seed; DESCANT_SIM_SEEDS=n runs n of them.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/simulation.h"

namespace descant {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(SchedulerSim, EverySequenceIsAsAlone) {
  const uint64_t only = FromEnvironment("DESCANT_SIM_SEED", 0);
  const uint64_t first = only == 0 ? 1 : only;
  const uint64_t last =
      only == 0 ? FromEnvironment("DESCANT_SIM_SEEDS", 2000) : only;
  uint64_t preemptions = 0;
  uint64_t several = 0;
  uint64_t shared = 0;
  uint64_t cached = 0;
  uint64_t loaded = 0;
  uint64_t taken = 0;
  uint64_t unloaded = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(absl::StrCat("DESCANT_SIM_SEED=", seed));
    Simulation simulation(seed);
    simulation.Run();
    preemptions += simulation.preemptions();
    several += simulation.several_done();
    loaded += simulation.loaded();
    shared += simulation.shared();
    cached += simulation.cached();
    taken += simulation.taken();
    unloaded += simulation.unloaded();
    if (HasFailure()) break;
  }
  std::cout << "preemptions: " << preemptions << ", answers of several to a "
            << "request: " << several << ", shared blocks: " << shared
            << ", cached tokens: " << cached << ", loads: " << loaded
            << ", slots taken from other tenants: " << taken
            << ", unloads: " << unloaded << "\n";
  // The simulation must reach what it is there for.
  if (last - first > 1000) {
    EXPECT_GT(preemptions, 1000u);
    EXPECT_GT(several, 1000u);
    EXPECT_GT(shared, 1000u);
    EXPECT_GT(cached, 1000u);
    EXPECT_GT(taken, 1000u);
    EXPECT_GT(unloaded, 1000u);
  }
}

}  // namespace
}  // namespace descant
