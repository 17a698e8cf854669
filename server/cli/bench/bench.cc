// `descant bench`: the named workloads against a server.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/cli/bench/adapter_set.h"
#include "server/cli/bench/file_leg.h"
#include "server/cli/bench/load.h"
#include "server/cli/bench/report.h"
#include "server/cli/bench/temporary_server.h"
#include "server/cli/bench/validity.h"
#include "server/cli/bench/workload.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"

namespace descant::cli {
namespace {

// Of a file, so many lines are checked before it is timed; all of its answers
// are looked at afterwards, as every leg's.
constexpr int kCheckedLines = 64;

struct BenchOptions {
  std::vector<std::string> workloads;
  std::string serve;  // a model; empty: the server at --target
  std::vector<std::string> server_flags;
  int pairs = 1;
  int requests = 0;  // 0: the workload's own
  std::optional<uint64_t> seed;
};

// One run of the command against a server that answers.
class Bench {
 public:
  Bench(const BenchOptions& options, Connection connection)
      : options_(options), connection_(std::move(connection)) {
    report_.seed = options.seed.value_or(std::random_device()());
  }

  ExitCode Run(std::vector<Leg> legs, bool json);

 private:
  // Uploads, checks and times. `*verdict` is empty where every answer is right.
  grpc::Status Measure(std::string* verdict);
  grpc::Status TimeRound(int round, std::string* verdict);

  const BenchOptions& options_;
  const Connection connection_;
  BenchReport report_;
  AdapterDigests digests_;
  uint64_t next_stream_ = 0;  // prompts are never used twice
};

grpc::Status Bench::TimeRound(int round, std::string* verdict) {
  std::vector<LegTimes*> order;
  for (LegTimes& leg : report_.legs) order.push_back(&leg);
  // Forth and back, so that a drift of the machine falls on every leg alike.
  if (round % 2 == 1) std::reverse(order.begin(), order.end());
  for (LegTimes* times : order) {
    const std::vector<v1::GenerateRequest> requests = LegRequests(
        times->leg, report_.seed, next_stream_++, report_.model.vocab_size());
    LoadResult result;
    if (times->leg.from_file) {
      const absl::Status run = RunFromFile(connection_, requests, &result);
      if (!run.ok()) {
        *verdict = std::string(run.message());
        return grpc::Status::OK;
      }
    } else {
      const grpc::Status status =
          RunLoad(connection_.generation.get(), requests, times->leg.in_flight,
                  &result);
      if (!status.ok()) return status;
    }
    *verdict = CheckAnswers(requests, result.answers, digests_);
    if (!verdict->empty()) return grpc::Status::OK;
    times->Add(result);
    std::fprintf(stderr, "%d/%d  %-18s %8.1f tokens/s\n", round + 1,
                 options_.pairs, times->leg.name.c_str(),
                 result.OutputTokensPerSecond());
  }
  return grpc::Status::OK;
}

grpc::Status Bench::Measure(std::string* verdict) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  grpc::Status status =
      connection_.generation->GetModel(&context, {}, &report_.model);
  if (!status.ok()) return status;
  std::vector<Leg> legs;
  for (const LegTimes& times : report_.legs) legs.push_back(times.leg);
  status = UploadBenchAdapters(connection_, report_.model, legs, report_.seed,
                               &digests_);
  if (!status.ok()) return status;
  for (Leg leg : legs) {
    if (leg.from_file) leg.requests = std::min(leg.requests, kCheckedLines);
    std::fprintf(stderr, "checking %s\n", leg.name.c_str());
    status =
        CheckLeg(connection_.generation.get(), leg, report_.seed,
                 next_stream_++, report_.model.vocab_size(), digests_, verdict);
    if (!status.ok() || !verdict->empty()) return status;
  }
  for (int round = 0; round < options_.pairs; ++round) {
    status = TimeRound(round, verdict);
    if (!status.ok() || !verdict->empty()) return status;
  }
  return grpc::Status::OK;
}

ExitCode Bench::Run(std::vector<Leg> legs, bool json) {
  for (Leg& leg : legs) report_.legs.push_back({.leg = std::move(leg)});
  std::fprintf(stderr, "seed %llu\n",
               static_cast<unsigned long long>(report_.seed));
  std::string verdict;
  const grpc::Status status = Measure(&verdict);
  DeleteBenchAdapters(connection_, digests_);
  if (!status.ok()) return ReportError(status, connection_.target);
  if (!verdict.empty()) {
    if (json) {
      PrintJson(
          {{"valid", false}, {"seed", report_.seed}, {"reason", verdict}});
    }
    std::fprintf(json ? stderr : stdout, "INVALID: %s\n", verdict.c_str());
    return kExitInvalid;
  }
  if (json) {
    PrintJson(ReportJson(report_));
  } else {
    std::fputs(ReportText(report_).c_str(), stdout);
  }
  return kExitOk;
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
  for (Leg& leg : legs) {
    if (options.requests > 0) leg.requests = options.requests;
    // Every adapter must answer something, or its check says nothing.
    leg.adapters = std::min(leg.adapters, leg.requests);
  }
  if (options.serve.empty()) {
    return Bench(options, Connect(global.target, global.api_key))
        .Run(std::move(legs), global.json);
  }
  const absl::StatusOr<std::unique_ptr<TemporaryServer>> server =
      TemporaryServer::Start(options.serve, options.server_flags);
  if (!server.ok()) return ReportError(server.status());
  return Bench(options, Connect((*server)->target()))
      .Run(std::move(legs), global.json);
}

}  // namespace

void AddBenchCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app->add_subcommand(
      "bench", "Measure a server with closed-loop loads of random prompts");
  command->footer(
      "Workloads (greedy, prompt 128 tokens, output 64):\n"
      "  W-base    64 requests, 32 in flight, no adapter\n"
      "  W-one     the same, all on one adapter (rank 8, q_proj and v_proj)\n"
      "  W-mixed   the same, 32 adapters, request i on adapter i mod 32\n"
      "  W-wide    W-mixed with rank 16 on all linear modules\n"
      "  W-single  1 in flight: base, then one adapter\n"
      "  W-eight   8 in flight, 16 requests: base, then 8 adapters\n"
      "  W-file    1000 lines of a file, as W-mixed, through `descant run`\n"
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
      ->add_option("--pairs", options->pairs,
                   "Repetitions; 21 for a good interval")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--requests", options->requests,
                   "Requests a repetition, instead of the workload's own")
      ->check(CLI::PositiveNumber);
  command->add_option("--seed", options->seed,
                      "Seed of prompts and adapters (default: drawn, printed)");
  command->callback([options, chosen] {
    if (options->workloads.empty()) throw CLI::RequiredError("--workload");
    *chosen = [options](const GlobalOptions& global) {
      return RunBench(*options, global);
    };
  });
}

}  // namespace descant::cli
