// 50 streams that nobody reads, beside some that are read: the speed of the
// others, and the memory.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "server/limits.h"
#include "tests/bench/tenants/legs.h"
#include "tests/bench/tenants/load_shapes.h"
#include "tests/e2e/metrics_page.h"

namespace descant::bench {
namespace {

constexpr int kReading = 0;  // tenants: connections of their own
constexpr int kStopped = 1;
constexpr int kOthers = 4;
// With 20 log-probabilities a token, more than a stream may have unread.
constexpr int kPrompt = 1100;
constexpr double kPoll = 2;  // s
constexpr double kPatience = 600;
// One message that is being written and one that waits, of at most this each
// on the wire; in memory they are several times that.
constexpr double kCapMiB =
    2 * 4 * static_cast<double>(limits::kMaxStreamPendingBytes) / (1 << 20);

class Readers {
 public:
  explicit Readers(const BenchOptions& options)
      : options_(options),
        server_({}, Flags(options)),
        maker_(options.seed, VocabSize(server_)),
        traffic_(server_.process().target(), {"", ""}) {}

  // So that memory that was never touched isn't counted later.
  void TouchCache() {
    const int prompts = options_.smoke ? 3 : 12;
    for (int i = 0; i < prompts; ++i) {
      PlannedCall call;
      call.request = maker_.Make("", kPrompt, 1);
      traffic_.Send(std::move(call));
    }
    traffic_.RunUntil(traffic_.Now() + kPatience,
                      [this] { return traffic_.running() == 0; });
  }

  void StartOthers() {
    CloseLoop(&traffic_, {kReading}, kOthers, [this](int tenant) {
      PlannedCall call;
      call.tenant = tenant;
      call.request = maker_.Make("", options_.prompt, options_.output);
      return call;
    });
  }

  void StartStopped(int count) {
    for (int i = 0; i < count; ++i) {
      PlannedCall call;
      call.tenant = kStopped;
      call.request = maker_.Make("", kPrompt, 1000);
      call.request.mutable_output()->set_top_logprobs(20);
      call.request.mutable_output()->set_prompt_logprobs(20);
      call.reads = 0;
      traffic_.Send(std::move(call));
    }
  }

  // Until the server computes little more than what the others get.
  void AwaitPaused() {
    const double limit = traffic_.Now() + kPatience;
    while (true) {
      const double begin = traffic_.Now();
      const double rows = Rows();
      traffic_.RunUntil(begin + kPoll);
      int64_t others =
          TokensWithin(traffic_.outcomes(), kReading, begin, traffic_.Now());
      for (const CallOutcome& outcome : traffic_.outcomes()) {
        if (outcome.tenant == kReading && outcome.due >= begin) {
          others += options_.prompt;
        }
      }
      if (Rows() - rows < 1.5 * static_cast<double>(others)) return;
      DESCANT_CHECK(traffic_.Now() < limit);
    }
  }

  // Tokens a second of the others.
  double Rate() {
    const double begin = traffic_.Now();
    traffic_.RunUntil(begin + options_.seconds / 2);
    const double end = traffic_.Now();
    return static_cast<double>(
               TokensWithin(traffic_.outcomes(), kReading, begin, end)) /
           (end - begin);
  }

  // Of the stopped streams, those the server has ended.
  int Ended() const {
    return static_cast<int>(
        std::count_if(traffic_.outcomes().begin(), traffic_.outcomes().end(),
                      [](const CallOutcome& outcome) {
                        return outcome.tenant == kStopped && outcome.ended;
                      }));
  }

  int64_t Memory() { return ResidentBytes(server_.process().pid()); }

 private:
  static std::vector<std::string> Flags(const BenchOptions& options) {
    return FlagsAfter(
        {"--stream-stall-timeout=1h",
         options.smoke ? "--kv-memory=64MiB" : "--kv-memory=256MiB"},
        options);
  }

  double Rows() {
    const auto page = e2e::Scrape(server_.process().metrics_port());
    DESCANT_CHECK(page.ok());
    return e2e::Sum(*page, "descant_rows_total");
  }

  const BenchOptions options_;
  TenantServer server_;
  RequestMaker maker_;
  Traffic traffic_;
};

}  // namespace

void StoppedReaders(const BenchOptions& options, Bars* bars) {
  const int count = options.smoke ? 8 : 50;
  Readers readers(options);
  readers.TouchCache();
  readers.StartOthers();
  const double before = readers.Rate();
  const int64_t memory = readers.Memory();
  readers.StartStopped(count);
  readers.AwaitPaused();
  const double during = readers.Rate();
  const double growth =
      static_cast<double>(readers.Memory() - memory) / (1 << 20);
  DESCANT_CHECK(readers.Ended() == 0);
  std::printf(
      "readers: %d streams that nobody reads; the others %.1f tokens/s, "
      "before %.1f; memory %.1f MiB more\n",
      count, during, before, growth);
  bars->Note("readers", {{"count", count},
                         {"before", before},
                         {"during", during},
                         {"growth_mib", growth}});
  bars->AtLeast("others' speed beside streams that nobody reads, over before",
                during / before, .95);
  bars->AtMost("memory of a stream that nobody reads", growth / count, kCapMiB,
               "MiB");
}

}  // namespace descant::bench
