// Arrivals and closed loops that several parts of tenants_bench use.
#ifndef DESCANT_TESTS_BENCH_TENANTS_LOAD_SHAPES_H_
#define DESCANT_TESTS_BENCH_TENANTS_LOAD_SHAPES_H_

#include <functional>
#include <vector>

#include "tests/bench/tenants/traffic.h"

namespace descant::bench {

// Times of a Poisson process of `rate` a second, in [0, seconds). The same for
// the same seed and stream.
std::vector<double> PoissonTimes(double rate, double seconds, uint64_t seed,
                                 uint64_t stream);

// Keeps `in_flight` calls under way for each of `tenants`, until the traffic
// is told otherwise. `make` makes a tenant's next one.
void CloseLoop(Traffic* traffic, const std::vector<int>& tenants, int in_flight,
               std::function<PlannedCall(int tenant)> make);

// Calls a second that end well in a closed loop, in a window of at least
// `seconds` that begins when as many have ended as are under way: by then the
// first ones no longer run side by side. `latencies`, where given, gets those
// of the window, in seconds. The loop runs on.
double MeasureClosedLoop(Traffic* traffic, int in_flight, double seconds,
                         std::vector<double>* latencies = nullptr);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_TENANTS_LOAD_SHAPES_H_
