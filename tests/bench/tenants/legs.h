// The parts of tenants_bench. Each starts a server of its own.
#ifndef DESCANT_TESTS_BENCH_TENANTS_LEGS_H_
#define DESCANT_TESTS_BENCH_TENANTS_LEGS_H_

#include "tests/bench/tenants/setup.h"

namespace descant::bench {

// One heavy tenant beside nine light ones of equal weight.
void NoisyNeighbour(const BenchOptions& options, Bars* bars);
// Tenants of weights 1, 2 and 4, all with more than they get.
void Shares(const BenchOptions& options, Bars* bars);
// Five times what the server can do.
void Overload(const BenchOptions& options, Bars* bars);
// 50 streams that nobody reads, beside some that are read.
void StoppedReaders(const BenchOptions& options, Bars* bars);
// Prompts that share their first 512 tokens.
void PrefixSaving(const BenchOptions& options, Bars* bars);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_TENANTS_LEGS_H_
