// Seeds that once failed: each is run before all others, whatever else is
// asked for. A seed means the same only while the simulation draws the same
// numbers in the same order: what is new in it draws from a generator of its
// own.
#ifndef DESCANT_TESTS_SIM_REGRESSION_SEEDS_H_
#define DESCANT_TESTS_SIM_REGRESSION_SEEDS_H_

#include <cstdint>

namespace descant {

inline constexpr uint64_t kRegressionSeeds[] = {
    // Whoever waited shared the first block of a prompt that was held for
    // others: the hold was never given up, and nobody could start.
    51866,
    // Two requests held the same block for others: neither hold alone freed it.
    113647,
    209333,
    307332,
    // A request held a block for others whose content the prefix cache had in
    // another one: its own answer could not have the place of the first.
    327538,
    // Two tenants that had waited for slots were backlogged before admission,
    // which waited for memory, came to them: both counters were lifted late.
    231529,
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_REGRESSION_SEEDS_H_
