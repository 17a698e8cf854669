// `descant bench`: the named workloads against a server.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "server/cli/bench/bench_run.h"
#include "server/cli/bench/workload.h"
#include "server/cli/command.h"
#include "server/cli/error_report.h"

namespace descant::cli {
namespace {

// NAME=FLAG[,FLAG ...]
BenchVariant ParseVariant(const std::string& text) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  BenchVariant variant{.name = parts.first};
  variant.flags = absl::StrSplit(parts.second, ',', absl::SkipEmpty());
  return variant;
}

ExitCode RunBench(const BenchOptions& options, const GlobalOptions& global) {
  std::vector<Leg> legs;
  for (const std::string& name : options.workloads) {
    const absl::StatusOr<std::vector<Leg>> more = WorkloadLegs(name);
    if (!more.ok()) {
      ReportError(more.status());
      return kExitUsage;
    }
    legs.insert(legs.end(), more->begin(), more->end());
  }
  if (options.drafts) {
    std::vector<Leg> plain;
    for (const Leg& leg : legs) {
      if (!leg.twin) plain.push_back(leg);
    }
    legs = WithTwins(plain);
  }
  for (Leg& leg : legs) {
    if (options.requests > 0) leg.requests = options.requests;
    // Every adapter must answer something, or its check says nothing.
    if (!leg.zipf) leg.adapters = std::min(leg.adapters, leg.requests);
    if (!leg.server_flags.empty() && options.serve.empty()) {
      std::fprintf(stderr, "descant: %s needs --serve\n", leg.name.c_str());
      return kExitUsage;
    }
  }
  return Bench(options, global).Run(legs);
}

}  // namespace

void AddBenchCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app->add_subcommand(
      "bench", "Measure a server with loads of random prompts");
  command->footer(
      "Workloads (greedy, prompt 128 tokens, output 64):\n"
      "  W-base    64 requests, 32 in flight, no adapter\n"
      "  W-one     the same, all on one adapter (rank 8, q_proj and v_proj)\n"
      "  W-mixed   the same, 32 adapters, request i on adapter i mod 32\n"
      "  W-wide    W-mixed with rank 16 on all linear modules\n"
      "  W-single  1 in flight: base, then one adapter\n"
      "  W-eight   8 in flight, 16 requests: base, then 8 adapters\n"
      "  W-many    64 in flight, 128 requests: base, then 64 adapters\n"
      "  W-file    1000 lines of a file, as W-mixed, through `descant run`\n"
      "  W-scale  W-mixed with 100, 1000 and 10000 registered adapters, drawn\n"
      "           by Zipf's law (W-scale-100, ...: one of them)\n"
      "  W-open   open loop: W-mixed's requests as a Poisson process at 50 %\n"
      "           and 80 % of the rate that saturates the server\n"
      "  W-copy   answers that repeat their prompt, without and with\n"
      "           speculation: 1 in flight, then 8\n"
      "  W-unused W-base with --max-adapters=0, and with 32 adapters loaded\n"
      "           and unused (needs --serve)\n"
      "Several workloads are run in turn, and every figure is also given as\n"
      "a ratio to the first. Before timing, the answers are checked: INVALID\n"
      "and exit code 1 where an adapter changes nothing, or a batch changes\n"
      "an answer.");
  auto* workload = command
                       ->add_option("--workload", options->workloads,
                                    "Workload, or several: W-base,W-mixed")
                       ->delimiter(',');
  command
      ->add_option("--compare", options->workloads,
                   "The same as --workload, for several")
      ->delimiter(',')
      ->excludes(workload);
  auto* serve = command->add_option(
      "--serve", options->serve,
      "Start descant-server with this model for the bench, and stop it then");
  command
      ->add_option("--server-flag", options->server_flags,
                   "With --serve: a flag to pass on (may be repeated), for "
                   "instance --server-flag=--token-budget=256")
      ->allow_extra_args(false)
      ->needs(serve);
  command
      ->add_option_function<std::vector<std::string>>(
          "--variant",
          [options](const std::vector<std::string>& variants) {
            for (const std::string& text : variants) {
              options->variants.push_back(ParseVariant(text));
            }
          },
          "With --serve: NAME=FLAG[,FLAG...], a server with these flags as "
          "well. With several, every workload runs on each in turn: "
          "--variant bf16= --variant int8=--weights=int8")
      ->allow_extra_args(false)
      ->needs(serve);
  command
      ->add_option("--pairs", options->pairs,
                   "Repetitions; 21 for a good interval")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--requests", options->requests,
                   "Requests a repetition, instead of the workload's own")
      ->check(CLI::PositiveNumber);
  command->add_flag("--unchecked", options->unchecked,
                    "Leave out the check before timing, after a run that had "
                    "it; lengths and adapters of the answers are checked "
                    "all the same");
  command->add_flag("--drafts", options->drafts,
                    "Run each leg a second time with speculation, for the same "
                    "requests: the tokens are compared, and the times");
  command->add_option("--seed", options->seed,
                      "Seed of prompts and adapters (default: drawn, printed)");
  command->add_option("--commit", options->commit,
                      "What was built, noted in the report");
  command->add_option("--output", options->output,
                      "Write the report to OUTPUT.json and OUTPUT.md as well");
  command->callback([options, chosen] {
    if (options->workloads.empty()) throw CLI::RequiredError("--workload");
    *chosen = [options](const GlobalOptions& global) {
      return RunBench(*options, global);
    };
  });
}

}  // namespace descant::cli
