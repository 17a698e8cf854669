// One heavy tenant beside nine light ones of equal weight: what the light ones
// have to wait, each alone, the nine without it, and beside it.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/tenants/legs.h"
#include "tests/bench/tenants/load_shapes.h"

namespace descant::bench {
namespace {

using cli::Quantile;

constexpr int kLight = 9;
constexpr int kHeavy = kLight;        // index
constexpr int kTenants = kLight + 1;  // each with an equal share
constexpr int kEveryone = kTenants;   // all of them under one key
// What the heavy one sends, of its share; the light ones' is an option.
constexpr double kHeavyLoad = 10;
// The operator's part: without a target, a step is as long as 64 decodes and
// the prompts of whoever came.
constexpr char kTarget[] = "--target-itl-ms=100";
constexpr int kSaturation = 64;  // in flight

std::string AdapterOf(int tenant) { return absl::StrCat("tuned-", tenant); }

class Neighbours {
 public:
  explicit Neighbours(const BenchOptions& options)
      : options_(options),
        server_(Tenants(), FlagsAfter({kTarget}, options)),
        maker_(options.seed, VocabSize(server_)) {
    for (int i = 0; i < kTenants; ++i) {
      server_.Upload(i, AdapterOf(i), i + 1);
      server_.Upload(kEveryone, AdapterOf(i), i + 1);
    }
  }

  // Calls a second that the server can answer.
  double MeasureCapacity() {
    Traffic traffic(server_.process().target(), server_.keys());
    int turn = 0;
    CloseLoop(&traffic, {kEveryone}, kSaturation, [&](int) {
      PlannedCall call = Call(turn++ % kTenants, 0);
      call.tenant = kEveryone;
      return call;
    });
    return MeasureClosedLoop(&traffic, kSaturation, options_.seconds / 3);
  }

  // Each light tenant in a time of its own, on a server that has nothing else
  // to do.
  Latencies Solo(double rate) {
    Traffic traffic(server_.process().target(), server_.keys());
    const double each = options_.seconds / 3;
    std::vector<PlannedCall> plan;
    for (int tenant = 0; tenant < kLight; ++tenant) {
      for (const double at : PoissonTimes(rate, each, options_.seed, tenant)) {
        plan.push_back(Call(tenant, tenant * each + at));
      }
    }
    traffic.SetPlan(std::move(plan));
    traffic.RunUntil(kLight * each);
    Await(&traffic);
    return LatenciesOf(traffic.outcomes(),
                       [](const CallOutcome&) { return true; });
  }

  // All at once; the heavy one's queue, if it sends, is there before anything
  // counts. `together`: under one key, so that all are served as they came.
  Latencies Beside(double light_rate, double heavy_rate, bool together) {
    std::vector<std::string> keys = server_.keys();
    if (together) std::fill(keys.begin(), keys.end(), keys[kEveryone]);
    Traffic traffic(server_.process().target(), keys);
    const double warm_up = options_.seconds / 4;
    const double seconds = warm_up + options_.seconds;
    std::vector<PlannedCall> plan;
    for (int tenant = 0; tenant < kTenants; ++tenant) {
      const double rate = tenant == kHeavy ? heavy_rate : light_rate;
      if (rate == 0) continue;
      for (const double at :
           PoissonTimes(rate, seconds, options_.seed, kTenants + tenant)) {
        plan.push_back(Call(tenant, at));
      }
    }
    std::sort(plan.begin(), plan.end(),
              [](const PlannedCall& a, const PlannedCall& b) {
                return a.due < b.due;
              });
    traffic.SetPlan(std::move(plan));
    traffic.RunUntil(seconds);
    Await(&traffic);
    heavy_tokens_ = static_cast<double>(TokensWithin(traffic.outcomes(), kHeavy,
                                                     warm_up, seconds)) /
                    (seconds - warm_up);
    return LatenciesOf(traffic.outcomes(), [&](const CallOutcome& outcome) {
      return outcome.tenant != kHeavy && outcome.due >= warm_up;
    });
  }

  // A second, in the last Beside.
  double heavy_tokens() const { return heavy_tokens_; }

 private:
  static std::vector<BenchTenant> Tenants() {
    std::vector<BenchTenant> tenants;
    for (int i = 0; i < kLight; ++i) {
      tenants.push_back({absl::StrCat("light-", i)});
    }
    tenants.push_back({"heavy"});
    tenants.push_back({"everyone"});
    return tenants;
  }

  PlannedCall Call(int tenant, double due) {
    PlannedCall call;
    call.due = due;
    call.tenant = tenant;
    call.request =
        maker_.Make(AdapterOf(tenant), options_.prompt, options_.output);
    return call;
  }

  // The light ones' ends; the heavy one's queue is left.
  static void Await(Traffic* traffic) {
    constexpr double kPatience = 120;
    traffic->RunUntil(traffic->Now() + kPatience, [traffic] {
      return std::all_of(traffic->outcomes().begin(), traffic->outcomes().end(),
                         [](const CallOutcome& outcome) {
                           return outcome.ended || outcome.tenant == kHeavy;
                         });
    });
    traffic->CancelAll();
  }

  const BenchOptions options_;
  TenantServer server_;
  RequestMaker maker_;
  double heavy_tokens_ = 0;
};

void Print(const char* name, const Latencies& of, Bars* bars) {
  DESCANT_CHECK(!of.first.empty() && !of.gaps.empty());
  const double figures[] = {Quantile(of.first, .5), Quantile(of.first, .99),
                            Quantile(of.gaps, .5), Quantile(of.gaps, .99)};
  std::printf(
      "%-22s TTFT p50 %7.1f p99 %7.1f ms; ITL p50 %6.1f p99 %6.1f ms; %zu "
      "calls, %d failed\n",
      name, figures[0], figures[1], figures[2], figures[3], of.first.size(),
      of.failed);
  std::fflush(stdout);
  bars->Note("noisy", {{"what", name},
                       {"ttft_p50_ms", figures[0]},
                       {"ttft_p99_ms", figures[1]},
                       {"itl_p50_ms", figures[2]},
                       {"itl_p99_ms", figures[3]},
                       {"calls", of.first.size()},
                       {"failed", of.failed}});
}

}  // namespace

void NoisyNeighbour(const BenchOptions& options, Bars* bars) {
  Neighbours neighbours(options);
  const double capacity = neighbours.MeasureCapacity();
  const double share = capacity / kTenants;
  const double light = options.light_load * share;
  std::printf(
      "noisy: %s, capacity %.2f calls/s (prompt %d, output %d); nine light "
      "tenants send %.2f of their share, the heavy one %.0f times its own\n",
      kTarget, capacity, options.prompt, options.output, options.light_load,
      kHeavyLoad);
  const Latencies alone = neighbours.Solo(light);
  Print("light, each alone", alone, bars);
  const Latencies quiet = neighbours.Beside(light, 0, false);
  Print("the nine, no heavy one", quiet, bars);
  const Latencies beside = neighbours.Beside(light, kHeavyLoad * share, false);
  Print("light, beside heavy", beside, bars);
  std::printf("heavy: %.1f tokens/s, %.2f of what the others leave\n",
              neighbours.heavy_tokens(),
              neighbours.heavy_tokens() /
                  (capacity * options.output *
                   (1 - options.light_load * kLight / kTenants)));
  if (!options.smoke) {
    Print("the same, one key: FCFS",
          neighbours.Beside(light, kHeavyLoad * share, true), bars);
  }
  const double p99 = Quantile(beside.first, .99);
  bars->AtMost("light tenants' p99 TTFT beside a heavy one, over each alone",
               p99 / Quantile(alone.first, .99), 2, "x");
  bars->AtMost("light tenants' p99 TTFT beside a heavy one, over without it",
               p99 / Quantile(quiet.first, .99), 2, "x");
  bars->AtMost("light tenants' calls that failed", beside.failed, 0, "");
}

}  // namespace descant::bench
