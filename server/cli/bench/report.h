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
  std::vector<double> tokens_per_s;  // one a repetition
  std::vector<double> ttft_ms;       // one a request
  std::vector<double> itl_ms;        // one a token after the first
  uint64_t output_tokens = 0;
  double seconds = 0;

  void Add(const LoadResult& result);
};

struct BenchReport {
  uint64_t seed = 0;
  v1::GetModelResponse model;
  std::vector<LegTimes> legs;  // the ratios' base first
};

// {seed, repetitions, output_tokens_per_s, ttft_ms{p50,p99}, itl_ms{p50,p99},
//  legs[{name, ..., output_tokens_per_s{median,low,high}, ratio{median,low,
//  high}}], machine{cpu, cores, device}, server_version, model}. The figures
// at the top are the first leg's. `ratio` is to the first leg, repetition by
// repetition; low and high bound the median with 95 % confidence and are null
// below six repetitions.
Json ReportJson(const BenchReport& report);

// The same for people.
std::string ReportText(const BenchReport& report);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_REPORT_H_
