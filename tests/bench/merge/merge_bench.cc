// Hot merge on the demo model, through the real engine and CPU runner:
//   one      an adapter that owns the traffic, merged and unmerged, beside the
//            base: interleaved, the same prompts;
//   traces   adapters by turns and in bursts, --hot-merge=auto beside off;
//   cycles   merged and dropped over and over while it is asked: the base's
//            bits, the tokens, memory, and gaps between tokens.
//
//   merge_bench [--only one,traces,cycles] [--pairs N] [--cycles N]
//               [--untimed] [--seed N] [--json FILE] MODEL
//
// Exit code 1 where a bar is not met.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/machine/machine.h"
#include "tests/bench/merge/parts.h"

namespace descant::bench {

void MergeBench::Ratio(const std::string& what,
                       const std::vector<double>& samples, double bar,
                       bool interval) {
  const cli::MedianInterval median = cli::MedianOf(samples);
  const double held = interval ? median.low.value_or(0) : median.median;
  const bool met = bar == 0 || held >= bar;
  failed = failed || !met;
  std::printf(
      "%-56s %.4f [%.4f, %.4f] of %zu pairs%s\n", what.c_str(), median.median,
      median.low.value_or(0), median.high.value_or(0), samples.size(),
      bar == 0
          ? ""
          : absl::StrCat(", bar ", bar, met ? ": met" : ": NOT MET").c_str());
  std::fflush(stdout);
  results["ratios"].push_back({{"what", what},
                               {"median", median.median},
                               {"low", median.low.value_or(0)},
                               {"high", median.high.value_or(0)},
                               {"pairs", samples.size()},
                               {"bar", bar},
                               {"met", met}});
}

void MergeBench::Value(const std::string& what, double value, double most,
                       const std::string& unit) {
  const bool met = value <= most;
  failed = failed || !met;
  std::printf("%-56s %.4g %s, at most %.4g: %s\n", what.c_str(), value,
              unit.c_str(), most, met ? "met" : "NOT MET");
  std::fflush(stdout);
  results["values"].push_back({{"what", what},
                               {"value", value},
                               {"unit", unit},
                               {"most", most},
                               {"met", met}});
}

int Main(int argc, char** argv) {
  MergeBench bench;
  std::vector<std::string> only = {"one", "traces", "cycles"};
  std::string model;
  std::string json;
  CLI::App app("Hot merge, measured");
  app.add_option("--only", only)->delimiter(',');
  app.add_option("--pairs", bench.pairs);
  app.add_option("--cycles", bench.cycles);
  app.add_flag("--untimed", bench.untimed, "No bars of time: cycles only");
  app.add_option("--trace", bench.trace, "Traces with this in their name");
  app.add_flag("--narrow", bench.narrow, "Cycles of an adapter on q and v");
  app.add_option("--seed", bench.seed);
  app.add_option("--json", json);
  app.add_option("MODEL", model)->required();
  CLI11_PARSE(app, argc, argv);
  auto loaded = LoadModel(model);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
    return 1;
  }
  bench.model = *std::move(loaded);
  const Machine machine = DescribeMachine();
  std::printf("%s, %d cores, commit %s, %s, seed %llu\n", machine.cpu.c_str(),
              machine.cores, machine.commit.c_str(), machine.date.c_str(),
              static_cast<unsigned long long>(bench.seed));
  bench.results = {{"cpu", machine.cpu},
                   {"cores", machine.cores},
                   {"commit", machine.commit},
                   {"date", machine.date},
                   {"seed", bench.seed}};
  for (const std::string& part : only) {
    if (part == "one") OneAdapter(&bench);
    if (part == "traces") Traces(&bench);
    if (part == "cycles") Cycles(&bench);
  }
  if (!json.empty()) std::ofstream(json) << bench.results.dump(1) << "\n";
  return bench.failed ? 1 : 0;
}

}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
