#include "server/cli/bench/bench_run.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status_macros.h"
#include "server/cli/bench/file_leg.h"
#include "server/cli/bench/load.h"
#include "server/cli/bench/validity.h"
#include "server/cli/error_report.h"

namespace descant::cli {
namespace {

// Of each leg so many are checked before it is timed; all of its answers are
// looked at afterwards.
constexpr int kCheckedRequests = 64;

}  // namespace

absl::Status Bench::Place(const Leg& leg, const BenchVariant& variant) {
  std::vector<std::string> flags = options_.server_flags;
  flags.insert(flags.end(), variant.flags.begin(), variant.flags.end());
  flags.insert(flags.end(), leg.server_flags.begin(), leg.server_flags.end());
  const bool serve = !options_.serve.empty();
  std::string key;
  if (serve) {
    key = absl::StrJoin(flags, " ");
    if (leg.own_server) absl::StrAppend(&key, " for ", leg.name);
  } else if (!leg.server_flags.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(leg.name, " needs --serve, for a server with ",
                     absl::StrJoin(leg.server_flags, " ")));
  }
  auto found =
      std::find_if(servers_.begin(), servers_.end(),
                   [&](const auto& served) { return served->key == key; });
  if (found == servers_.end()) {
    auto served = std::make_unique<Served>();
    served->key = key;
    ServerFacts facts{.flags = absl::StrJoin(flags, " ")};
    if (serve) {
      DESCANT_ASSIGN_OR_RETURN(served->process,
                               TemporaryServer::Start(options_.serve, flags));
      served->connection = Connect(served->process->target());
      facts.ready_seconds = served->process->ready_seconds();
    } else {
      served->connection = Connect(global_.target, global_.credentials);
    }
    report_.servers.push_back(std::move(facts));
    servers_.push_back(std::move(served));
    found = servers_.end() - 1;
  }
  Leg placed = leg;
  if (!variant.name.empty()) absl::StrAppend(&placed.name, " ", variant.name);
  report_.legs.push_back(
      {.leg = placed, .server = static_cast<int>(found - servers_.begin())});
  server_of_.push_back(found->get());
  (*found)->legs.push_back(std::move(placed));
  return absl::OkStatus();
}

grpc::Status Bench::Register(Served* served) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  grpc::Status status =
      served->connection.generation->GetModel(&context, {}, &served->model);
  if (!status.ok()) return status;
  const auto at = std::find_if(
      servers_.begin(), servers_.end(),
      [&](const auto& candidate) { return candidate.get() == served; });
  Registration registration;
  status = UploadBenchAdapters(served->connection, served->model, served->legs,
                               report_.seed, &served->digests, &registration);
  ServerFacts& facts = report_.servers[at - servers_.begin()];
  facts.registered = registration.adapters;
  facts.registration_seconds = registration.seconds;
  return status;
}

void Bench::NoteMemory(uint64_t ServerFacts::*what) {
  for (size_t i = 0; i < servers_.size(); ++i) {
    if (servers_[i]->process == nullptr) continue;
    report_.servers[i].*what =
        servers_[i]->process->AnonymousBytes().value_or(0);
  }
}

grpc::Status Bench::CheckLegs(std::string* verdict) {
  for (size_t i = 0; i < report_.legs.size(); ++i) {
    if (options_.unchecked) break;
    Leg leg = report_.legs[i].leg;
    Served* served = server_of_[i];
    // The closed leg before it was checked with requests like its own.
    if (leg.open_share > 0) continue;
    leg.requests = std::min(leg.requests, kCheckedRequests);
    std::fprintf(stderr, "checking %s\n", leg.name.c_str());
    const grpc::Status status = CheckLeg(
        served->connection.generation.get(), leg, report_.seed, next_stream_++,
        served->model.vocab_size(), served->digests, verdict);
    if (!status.ok() || !verdict->empty()) return status;
  }
  // After the checks, so that nobody has taken their slots.
  for (const auto& served : servers_) {
    const grpc::Status status = LoadIdleAdapters(
        served->connection, served->legs, served->model.vocab_size());
    if (!status.ok()) return status;
  }
  return grpc::Status::OK;
}

grpc::Status Bench::TimeLeg(const Leg& leg, Served* served, uint64_t stream,
                            LoadResult* result, std::string* verdict) {
  const std::vector<v1::GenerateRequest> requests =
      LegRequests(leg, report_.seed, stream, served->model.vocab_size());
  grpc::Status status;
  if (leg.from_file) {
    const absl::Status run = RunFromFile(served->connection, requests, result);
    if (!run.ok()) {
      *verdict = std::string(run.message());
      return status;
    }
  } else if (leg.open_share > 0) {
    status =
        RunOpenLoad(served->connection.generation.get(), requests,
                    PoissonArrivals(leg.requests, leg.open_share * saturation_,
                                    report_.seed, stream),
                    result);
  } else {
    status = RunLoad(served->connection.generation.get(), requests,
                     leg.in_flight, result);
  }
  if (!status.ok()) return status;
  if (leg.saturates) saturation_ = leg.requests / result->seconds;
  *verdict = CheckAnswers(requests, result->answers, served->digests);
  return status;
}

grpc::Status Bench::TimeRound(int round, std::string* verdict) {
  std::vector<size_t> order(report_.legs.size());
  std::iota(order.begin(), order.end(), 0);
  // Forth and back, so that a drift of the machine falls on every leg alike.
  // (Open legs of a round that goes back take the last round's saturation.)
  if (round % 2 == 1) std::reverse(order.begin(), order.end());
  const uint64_t streams = next_stream_;
  next_stream_ += order.size();
  std::vector<LoadResult> results(order.size());
  for (const size_t i : order) {
    LegTimes& times = report_.legs[i];
    LoadResult& result = results[i];
    const grpc::Status status =
        TimeLeg(times.leg, server_of_[i],
                streams + (times.leg.twin ? i - 1 : i), &result, verdict);
    if (!status.ok() || !verdict->empty()) return status;
    times.Add(result);
    std::fprintf(stderr, "%d/%d  %-18s %8.1f tokens/s\n", round + 1,
                 options_.pairs, times.leg.name.c_str(),
                 result.OutputTokensPerSecond());
  }
  for (size_t i = 1; i < results.size(); ++i) {
    if (!report_.legs[i].leg.twin) continue;
    for (size_t k = 0; k < results[i].answers.size(); ++k) {
      if (results[i].answers[k].tokens != results[i - 1].answers[k].tokens) {
        *verdict = absl::StrCat(report_.legs[i].leg.name, ": request ", k,
                                " answers otherwise than without drafts");
      }
    }
  }
  return grpc::Status::OK;
}

grpc::Status Bench::Measure(std::string* verdict) {
  NoteMemory(&ServerFacts::bytes_at_start);
  for (const auto& served : servers_) {
    const grpc::Status status = Register(served.get());
    if (!status.ok()) return status;
  }
  report_.model = servers_.front()->model;
  NoteMemory(&ServerFacts::bytes_registered);
  grpc::Status status = CheckLegs(verdict);
  if (!status.ok() || !verdict->empty()) return status;
  for (int round = 0; round < options_.pairs; ++round) {
    status = TimeRound(round, verdict);
    if (!status.ok() || !verdict->empty()) return status;
  }
  NoteMemory(&ServerFacts::bytes_at_end);
  return status;
}

ExitCode Bench::Print() {
  if (!options_.output.empty()) {
    std::ofstream json(options_.output + ".json");
    json << ReportJson(report_).dump(1) << "\n";
    std::ofstream markdown(options_.output + ".md");
    markdown << ReportMarkdown(report_);
    if (!json.flush() || !markdown.flush()) {
      return ReportError(absl::InternalError(
          absl::StrCat("can't write ", options_.output, ".json and .md")));
    }
  }
  if (global_.json) {
    PrintJson(ReportJson(report_));
  } else {
    std::fputs(ReportText(report_).c_str(), stdout);
  }
  return kExitOk;
}

ExitCode Bench::Run(const std::vector<Leg>& legs) {
  report_.seed = options_.seed.value_or(std::random_device()());
  report_.commit = options_.commit;
  std::fprintf(stderr, "seed %llu\n",
               static_cast<unsigned long long>(report_.seed));
  std::vector<BenchVariant> variants = options_.variants;
  if (variants.empty()) variants.emplace_back();
  for (const BenchVariant& variant : variants) {
    for (const Leg& leg : legs) {
      const absl::Status placed = Place(leg, variant);
      if (!placed.ok()) return ReportError(placed);
    }
  }
  std::string verdict;
  const grpc::Status status = Measure(&verdict);
  for (const auto& served : servers_) {
    if (served->process != nullptr) continue;  // its store goes with it
    DeleteBenchAdapters(served->connection, served->digests);
  }
  if (!status.ok()) {
    return ReportError(status, servers_.front()->connection.target);
  }
  if (verdict.empty()) return Print();
  if (global_.json) {
    PrintJson({{"valid", false}, {"seed", report_.seed}, {"reason", verdict}});
  }
  std::fprintf(global_.json ? stderr : stdout, "INVALID: %s\n",
               verdict.c_str());
  return kExitInvalid;
}

}  // namespace descant::cli
