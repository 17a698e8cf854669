// Tenants that all want more than they get: each gets tokens by its weight.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "tests/bench/tenants/legs.h"
#include "tests/bench/tenants/load_shapes.h"

namespace descant::bench {
namespace {

const std::vector<BenchTenant> kWeighted = {
    {"one", 1}, {"two", 2}, {"four", 4}};
constexpr int kTotalWeight = 7;
// Of each tenant: more than the server runs of all.
constexpr int kInFlight = 80;

// Largest relative distance of a tenant's tokens from its share.
double MeasureDistance(TenantServer* server, std::vector<std::string> keys,
                       const BenchOptions& options, const char* name,
                       Bars* bars) {
  RequestMaker maker(options.seed, VocabSize(*server));
  Traffic traffic(server->process().target(), std::move(keys));
  CloseLoop(&traffic, {0, 1, 2}, kInFlight, [&](int tenant) {
    PlannedCall call;
    call.tenant = tenant;
    call.request = maker.Make("", options.prompt, options.output);
    return call;
  });
  // Counters are even once each has been served a few times.
  traffic.RunUntil(std::max(5.0, options.seconds / 3));
  const double begin = traffic.Now();
  traffic.RunUntil(begin + options.seconds);
  const double end = traffic.Now();
  const double all =
      static_cast<double>(TokensWithin(traffic.outcomes(), -1, begin, end));
  double distance = 0;
  std::printf("%-28s %.0f tokens/s, shares", name, all / (end - begin));
  for (int i = 0; i < 3; ++i) {
    const double share =
        static_cast<double>(TokensWithin(traffic.outcomes(), i, begin, end)) /
        all;
    const double due = static_cast<double>(kWeighted[i].weight) / kTotalWeight;
    distance = std::max(distance, std::abs(share / due - 1));
    std::printf(" %.3f (of %.3f)", share, due);
  }
  std::printf("\n");
  std::fflush(stdout);
  bars->Note("shares", {{"what", name},
                        {"tokens_per_s", all / (end - begin)},
                        {"distance", distance}});
  return distance;
}

}  // namespace

void Shares(const BenchOptions& options, Bars* bars) {
  TenantServer server(kWeighted, options.server_flags);
  const double distance =
      MeasureDistance(&server, server.keys(), options, "weights 1, 2, 4", bars);
  if (!options.smoke) {
    const std::vector<std::string> one_key(3, server.keys()[0]);
    MeasureDistance(&server, one_key, options, "the same, one key: FCFS", bars);
  }
  bars->AtMost("shares of backlogged tenants: furthest from weights",
               100 * distance, 5, "%");
}

}  // namespace descant::bench
