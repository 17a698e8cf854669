#include "tests/bench/tenants/load_shapes.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/cli/bench/workload.h"

namespace descant::bench {

std::vector<double> PoissonTimes(double rate, double seconds, uint64_t seed,
                                 uint64_t stream) {
  // Six deviations more than the mean: never too few.
  const double mean = rate * seconds;
  const int count = static_cast<int>(mean + 6 * std::sqrt(mean) + 16);
  std::vector<double> times = cli::PoissonArrivals(count, rate, seed, stream);
  times.erase(std::lower_bound(times.begin(), times.end(), seconds),
              times.end());
  return times;
}

void CloseLoop(Traffic* traffic, const std::vector<int>& tenants, int in_flight,
               std::function<PlannedCall(int tenant)> make) {
  for (int i = 0; i < in_flight; ++i) {
    for (const int tenant : tenants) traffic->Send(make(tenant));
  }
  traffic->SetNext([make = std::move(make)](const CallOutcome& ended) {
    return std::optional<PlannedCall>(make(ended.tenant));
  });
}

double MeasureClosedLoop(Traffic* traffic, int in_flight, double seconds,
                         std::vector<double>* latencies) {
  const size_t first = traffic->outcomes().size();
  constexpr double kForever = 1e9;
  traffic->RunUntil(kForever, [&] {
    return traffic->outcomes().size() >= first + in_flight;
  });
  const double begin = traffic->Now();
  traffic->RunUntil(begin + seconds);
  const double end = traffic->Now();
  int ended = 0;
  for (const CallOutcome& outcome : traffic->outcomes()) {
    if (!outcome.ok() || outcome.end < begin || outcome.end >= end) continue;
    ++ended;
    if (latencies != nullptr) latencies->push_back(outcome.end - outcome.due);
  }
  return ended / (end - begin);
}

}  // namespace descant::bench
