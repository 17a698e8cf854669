// Prompts that share their first 512 tokens: what the second one saves.
#include <cstdio>

#include "runtime/base/check.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/tenants/legs.h"

namespace descant::bench {
namespace {

constexpr int kShared = 512;
constexpr int kOwn = 8;

}  // namespace

void PrefixSaving(const BenchOptions& options, Bars* bars) {
  TenantServer server({{"acme"}}, options.server_flags);
  RequestMaker maker(options.seed, VocabSize(server));
  Traffic traffic(server.process().target(), server.keys());
  std::vector<double> prefill[2], first[2];
  const int pairs = options.smoke ? 3 : 21;
  for (int pair = 0; pair < pairs; ++pair) {
    const std::vector<int64_t> shared = maker.Tokens(kShared);
    for (const int cached : {0, 1}) {
      PlannedCall call;
      call.request = maker.Make("", kOwn, 1);
      auto* ids = call.request.mutable_token_ids()->mutable_ids();
      const std::vector<int64_t> own(ids->begin(), ids->end());
      ids->Assign(shared.begin(), shared.end());
      ids->Add(own.begin(), own.end());
      const size_t index = traffic.outcomes().size();
      traffic.Send(std::move(call));
      traffic.RunUntil(traffic.Now() + 60,
                       [&] { return traffic.running() == 0; });
      const CallOutcome& outcome = traffic.outcomes()[index];
      DESCANT_CHECK(outcome.ok());
      DESCANT_CHECK(outcome.cached_tokens == (cached == 1 ? kShared : 0));
      prefill[cached].push_back(1e3 * outcome.prefill);
      first[cached].push_back(1e3 * (outcome.messages[0].at - outcome.due));
    }
  }
  const double whole = cli::Quantile(prefill[0], .5);
  const double rest = cli::Quantile(prefill[1], .5);
  std::printf(
      "prefix: prompts of %d tokens, %d of them shared, medians of %d: prefill "
      "%.1f ms, with the cache %.1f; first token %.1f and %.1f ms\n",
      kShared + kOwn, kShared, pairs, whole, rest, cli::Quantile(first[0], .5),
      cli::Quantile(first[1], .5));
  bars->Note("prefix", {{"prefill_ms", prefill[0]},
                        {"prefill_cached_ms", prefill[1]},
                        {"ttft_ms", first[0]},
                        {"ttft_cached_ms", first[1]}});
  bars->AtLeast("prefill that a shared prefix of 512 tokens saves",
                1 - rest / whole, .8);
}

}  // namespace descant::bench
