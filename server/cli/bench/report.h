// What a bench prints.
#ifndef DESCANT_SERVER_CLI_BENCH_REPORT_H_
#define DESCANT_SERVER_CLI_BENCH_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "descant/v1/generation.pb.h"
#include "server/cli/bench/load.h"
#include "server/cli/bench/workload.h"
#include "server/cli/json_output.h"

namespace descant::cli {

// Every timed repetition of one leg, without the answers' tokens.
struct LegTimes {
  Leg leg;
  int server = 0;                    // index of BenchReport's
  std::vector<double> tokens_per_s;  // one a repetition
  std::vector<double> ttft_ms;       // one a request
  std::vector<double> itl_ms;        // one a token after the first
  std::vector<double> late_ms;       // open loop: one a request
  uint64_t output_tokens = 0;
  double seconds = 0;

  void Add(const LoadResult& result);
};

// A server that legs ran on. Bytes are resident memory that is no file's, of a
// server started for the bench, else 0.
struct ServerFacts {
  std::string flags;
  double ready_seconds = 0;
  int registered = 0;  // adapters uploaded
  double registration_seconds = 0;
  uint64_t bytes_at_start = 0;
  uint64_t bytes_registered = 0;  // once all were uploaded
  uint64_t bytes_at_end = 0;
};

struct BenchReport {
  uint64_t seed = 0;
  std::string commit;  // empty: unknown
  std::vector<ServerFacts> servers;
  v1::GetModelResponse model;
  std::vector<LegTimes> legs;  // the ratios' base first
};

// {seed, repetitions, output_tokens_per_s, ttft_ms{p50,p99}, itl_ms{p50,p99},
//  legs[{name, server, ..., output_tokens_per_s{median,low,high},
//  ratio{median,low,high}, ratio_to}], servers[{flags, ready_s, ...}],
//  machine{cpu, cores, device}, server_version, commit, date, model}. The
// figures at the top are the first leg's. `ratio` is to the leg named by
// ratio_to (a twin's to the one before it, else the first), repetition by
// repetition; low and high bound the median with at least 95 % confidence and
// are null below six repetitions.
Json ReportJson(const BenchReport& report);

// The same for people, as aligned text and as Markdown.
std::string ReportText(const BenchReport& report);
std::string ReportMarkdown(const BenchReport& report);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_REPORT_H_
