// One bench: its servers, their adapters, and the rounds that are timed.
#ifndef DESCANT_SERVER_CLI_BENCH_BENCH_RUN_H_
#define DESCANT_SERVER_CLI_BENCH_BENCH_RUN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/cli/bench/adapter_set.h"
#include "server/cli/bench/report.h"
#include "server/cli/bench/temporary_server.h"
#include "server/cli/bench/workload.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"

namespace descant::cli {

// A server like the others but for some flags.
struct BenchVariant {
  std::string name;
  std::vector<std::string> flags;
};

struct BenchOptions {
  std::vector<std::string> workloads;
  std::string serve;  // a model; empty: the server at --target
  std::vector<std::string> server_flags;
  std::vector<BenchVariant> variants;  // each runs every leg; empty: one server
  int pairs = 1;
  int requests = 0;  // 0: the workload's own
  bool unchecked = false;
  bool drafts = false;  // a twin for each leg that has none
  std::optional<uint64_t> seed;
  std::string commit;  // noted in the report
  std::string output;  // report also to OUTPUT.json and OUTPUT.md
};

// Single-threaded; every leg's answers are checked before it is timed, unless
// the options say that an earlier run did.
class Bench {
 public:
  Bench(const BenchOptions& options, const GlobalOptions& global)
      : options_(options), global_(global) {}

  // Prints a report, or why there is none.
  ExitCode Run(const std::vector<Leg>& legs);

 private:
  // A server that legs run on; `process` is null for the one at --target.
  struct Served {
    std::string key;
    std::unique_ptr<TemporaryServer> process;
    Connection connection;
    v1::GetModelResponse model;
    AdapterDigests digests;
    std::vector<Leg> legs;
  };

  // Starts the leg's server unless it is there, and adds the leg to it.
  absl::Status Place(const Leg& leg, const BenchVariant& variant);
  grpc::Status Register(Served* served);
  // Uploads, checks and times. `*verdict` is empty where every answer is right.
  grpc::Status Measure(std::string* verdict);
  grpc::Status CheckLegs(std::string* verdict);
  grpc::Status TimeRound(int round, std::string* verdict);
  grpc::Status TimeLeg(const Leg& leg, Served* served, uint64_t stream,
                       LoadResult* result, std::string* verdict);
  void NoteMemory(uint64_t ServerFacts::*what);
  ExitCode Print();

  const BenchOptions& options_;
  const GlobalOptions& global_;
  BenchReport report_;
  std::vector<std::unique_ptr<Served>> servers_;
  std::vector<Served*> server_of_;  // of each of the report's legs
  double saturation_ = 0;           // requests a second
  uint64_t next_stream_ = 0;        // prompts are never used twice
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_BENCH_RUN_H_
