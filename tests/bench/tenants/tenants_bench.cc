// What tenants are to each other, on real servers with the demo model: a heavy
// neighbour, shares by weight, overload, readers that stop, shared prefixes.
//
//   tenants_bench [--smoke] [--only noisy,shares,overload,readers,prefix]
//                 [--seconds S] [--prompt N] [--output N] [--seed N]
//                 [--light-load L] [--server-flag FLAG]... [--json FILE]
//
// Bars (a smoke run has twice the slack and shorter windows): exit code 1
// where one is not met.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "tests/bench/machine/machine.h"
#include "tests/bench/tenants/legs.h"

namespace descant::bench {
namespace {

struct Leg {
  const char* name;
  void (*run)(const BenchOptions&, Bars*);
};
constexpr Leg kLegs[] = {{"noisy", NoisyNeighbour},
                         {"shares", Shares},
                         {"overload", Overload},
                         {"readers", StoppedReaders},
                         {"prefix", PrefixSaving}};

int Main(int argc, char** argv) {
  CLI::App app("What tenants are to each other");
  BenchOptions options;
  std::vector<std::string> only;
  std::string json;
  app.add_flag("--smoke", options.smoke,
               "Short windows, small requests, twice the slack");
  app.add_option("--only", only, "Parts")->delimiter(',');
  app.add_option("--seconds", options.seconds, "Of a window that is measured");
  app.add_option("--prompt", options.prompt, "Tokens of an ordinary prompt");
  app.add_option("--output", options.output, "Tokens of an ordinary answer");
  app.add_option("--light-load", options.light_load,
                 "What a light tenant sends beside a heavy one, of its share");
  app.add_option("--seed", options.seed, "Of prompts and arrivals");
  app.add_option("--server-flag", options.server_flags,
                 "Flags of every server");
  app.add_option("--json", json, "Results as JSON");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) {
    options.seconds = std::min(options.seconds, 10.0);
    options.prompt = std::min(options.prompt, 32);
    options.output = std::min(options.output, 8);
  }
  const Machine machine = DescribeMachine();
  std::printf("%s, %d cores, commit %s, %s, seed %llu\n", machine.cpu.c_str(),
              machine.cores, machine.commit.c_str(), machine.date.c_str(),
              static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);
  Bars bars(options.smoke);
  for (const Leg& leg : kLegs) {
    if (!only.empty() &&
        std::find(only.begin(), only.end(), leg.name) == only.end()) {
      continue;
    }
    leg.run(options, &bars);
  }
  if (!json.empty()) {
    nlohmann::json all = bars.results();
    all["machine"] = {{"cpu", machine.cpu},
                      {"cores", machine.cores},
                      {"commit", machine.commit},
                      {"date", machine.date}};
    std::ofstream(json) << all.dump(1) << "\n";
  }
  return bars.failed() ? 1 : 0;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
