// Five times what the server can do, from clients that don't wait for ever.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/tenants/legs.h"
#include "tests/bench/tenants/load_shapes.h"
#include "tests/e2e/metrics_page.h"

namespace descant::bench {
namespace {

constexpr int kSaturation = 64;  // in flight: what the server runs at once
constexpr double kOffered = 5;   // of the peak
// A client waits twice as long as an answer of a full batch takes.
constexpr double kPatience = 2;
constexpr double kSample = 0.5;  // s
// Enough for what runs, and all of it touched before memory is looked at.
constexpr char kCache[] = "--kv-memory=256MiB";

struct Result {
  double goodput = 0;  // calls a second answered in time
  int64_t resident_growth = 0;
  std::vector<double> refusals;      // ms, from when the call was due
  std::map<std::string, int> codes;  // of errors
  double wasted = 0;  // share of the tokens that were of calls not answered
};

class OverloadedServer {
 public:
  explicit OverloadedServer(const BenchOptions& options)
      : options_(options),
        server_({}, FlagsAfter({kCache}, options)),
        maker_(options.seed, VocabSize(server_)) {}

  // Calls a second in a closed loop, and how long one may take.
  double MeasurePeak(double* timeout) {
    double peak = 0;
    // Fewer in flight can be faster.
    for (const int in_flight : {kSaturation / 4, kSaturation}) {
      Traffic traffic(server_.process().target(), server_.keys());
      std::vector<double> latencies;
      CloseLoop(&traffic, {0}, in_flight, [this](int) { return Call(0, 0); });
      const double rate = MeasureClosedLoop(&traffic, in_flight,
                                            options_.seconds / 3, &latencies);
      DESCANT_CHECK(!latencies.empty());
      const double median = cli::Quantile(latencies, .5);
      std::printf("overload: %d in flight: %.2f calls/s, median %.2f s\n",
                  in_flight, rate, median);
      std::fflush(stdout);
      peak = std::max(peak, rate);
      *timeout = kPatience * median;
    }
    return peak;
  }

  Result Run(double rate, double timeout) {
    Traffic traffic(server_.process().target(), server_.keys());
    // Until the first ones' time is over: then calls end as fast as they come.
    const double warm_up = 2 * timeout;
    const double end = warm_up + options_.seconds;
    std::vector<PlannedCall> plan;
    for (const double at : PoissonTimes(rate, end, options_.seed, 0)) {
      plan.push_back(Call(at, timeout));
    }
    traffic.SetPlan(std::move(plan));
    traffic.RunUntil(warm_up);
    Result result;
    const int64_t before = ResidentBytes(server_.process().pid());
    while (traffic.Now() < end) {
      traffic.RunUntil(std::min(end, traffic.Now() + kSample));
      result.resident_growth =
          std::max(result.resident_growth,
                   ResidentBytes(server_.process().pid()) - before);
    }
    traffic.RunUntil(end + timeout + 5, [&] { return traffic.running() == 0; });
    traffic.CancelAll();
    Count(traffic.outcomes(), warm_up, end, &result);
    return result;
  }

  // First tokens, since the server started, that took longer than the least
  // bound of the histogram that is no less than `timeout`.
  double LateStarts(double timeout) {
    const auto page = e2e::Scrape(server_.process().metrics_port());
    DESCANT_CHECK(page.ok());
    const std::string name = "vllm:time_to_first_token_seconds";
    double bound = std::numeric_limits<double>::infinity();
    double in_time = 0;
    for (const auto& [series, count] : *page) {
      const size_t label = series.find("le=\"");
      double le = 0;
      if (!absl::StartsWith(series, name + "_bucket{") ||
          label == std::string::npos ||
          !absl::SimpleAtod(
              series.substr(label + 4, series.find('"', label + 4) - label - 4),
              &le) ||
          le < timeout || le > bound) {
        continue;
      }
      bound = le;
      in_time = count;
    }
    return e2e::Sum(*page, name + "_count") - in_time;
  }

 private:
  PlannedCall Call(double due, double timeout) {
    PlannedCall call;
    call.due = due;
    call.timeout = timeout;
    call.request = maker_.Make("", options_.prompt, options_.output);
    return call;
  }

  static void Count(const std::vector<CallOutcome>& outcomes, double begin,
                    double end, Result* result) {
    double tokens = 0;
    double wasted = 0;
    for (const CallOutcome& outcome : outcomes) {
      if (outcome.ok() && outcome.end >= begin && outcome.end < end) {
        result->goodput += 1 / (end - begin);
      }
      if (outcome.due < begin || outcome.due >= end) continue;
      ++result->codes[outcome.ok() ? "OK" : outcome.error];
      if (outcome.code == grpc::StatusCode::UNAVAILABLE ||
          outcome.code == grpc::StatusCode::RESOURCE_EXHAUSTED) {
        result->refusals.push_back(1e3 * (outcome.end - outcome.due));
      }
      for (const TokensAt& message : outcome.messages) {
        tokens += message.tokens;
        if (!outcome.ok()) wasted += message.tokens;
      }
    }
    result->wasted = tokens > 0 ? wasted / tokens : 0;
  }

  const BenchOptions options_;
  TenantServer server_;
  RequestMaker maker_;
};

}  // namespace

void Overload(const BenchOptions& options, Bars* bars) {
  OverloadedServer server(options);
  double timeout = 0;
  const double peak = server.MeasurePeak(&timeout);
  const double late_before = server.LateStarts(timeout);
  const Result result = server.Run(kOffered * peak, timeout);
  std::printf(
      "overload: %.1f calls/s offered, each has %.2f s; %.2f/s answered in "
      "time, %.1f %% of the tokens for nothing; answers by code:\n",
      kOffered * peak, timeout, result.goodput, 100 * result.wasted);
  for (const auto& [code, count] : result.codes) {
    std::printf("  %6d  %s\n", count, code.c_str());
  }
  const double late = server.LateStarts(timeout) - late_before;
  nlohmann::json note = {{"peak", peak},
                         {"timeout_s", timeout},
                         {"goodput", result.goodput},
                         {"wasted", result.wasted},
                         {"codes", result.codes}};
  bars->AtLeast("goodput at five times the peak, over the peak",
                result.goodput / peak, .9);
  bars->AtMost("resident memory after warm-up",
               static_cast<double>(result.resident_growth) / (1 << 20), 32,
               "MiB");
  if (!result.refusals.empty()) {
    note["refusal_p50_ms"] = cli::Quantile(result.refusals, .5);
    bars->AtMost("refusals, p99 from when the call was due",
                 cli::Quantile(result.refusals, .99), 20, "ms");
  }
  bars->AtMost("first tokens of calls whose time was over", late, 0, "");
  bars->Note("overload", note);
}

}  // namespace descant::bench
