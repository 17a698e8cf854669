// The named workloads, greedy, with end-of-sequence ignored:
//   W-base    64 requests, 32 in flight, prompt 128, output 64, no adapter
//   W-one     the same, all on one adapter (rank 8, q_proj and v_proj)
//   W-mixed   the same, 32 adapters, request i on adapter i mod 32
//   W-wide    W-mixed with rank 16 on all seven linear modules
//   W-single  1 in flight: base, then one adapter
//   W-eight   8 in flight, 16 requests: base, then 8 adapters
//   W-many    64 in flight, 128 requests: base, then 64 adapters, for devices
//             that a smaller batch leaves idle
//   W-file    1,000 requests as W-mixed's, as lines of a file that `descant
//             run` answers with its default concurrency
//   W-scale   W-mixed with 100, 1,000 and 10,000 registered adapters, drawn by
//             Zipf's law (exponent 1), on a server of its own each with its
//             default of resident adapters. W-scale-1000 is one of them. Only
//             the first 1,000 are of W-mixed's shape and get requests, the
//             others are as small as an adapter can be.
//   W-open    W-mixed with twice the requests, to measure saturation, and then
//             open loop: Poisson arrivals at 50 % and 80 % of that rate
//   W-copy    answers that repeat their prompt (text records, output 64),
//   without
//             and with speculation: 1 in flight, then 8
//   W-unused  W-base on a server with --max-adapters=0, and on one where 32
//             adapters of W-wide's shape are loaded and unused
// A workload of two parts is two legs. Requests ask for no speculation but in
// the legs that are there for it.
#ifndef DESCANT_SERVER_CLI_BENCH_WORKLOAD_H_
#define DESCANT_SERVER_CLI_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "descant/v1/generation.pb.h"

namespace descant::cli {

inline constexpr int kPromptTokens = 128;
inline constexpr int kOutputTokens = 64;

// Adapters of one shape.
struct AdapterShape {
  int rank = 8;
  bool all_linear = false;     // else q_proj and v_proj
  bool single_module = false;  // then the first of them only

  bool operator==(const AdapterShape&) const = default;
};

// A load that is timed as one.
struct Leg {
  std::string name;  // "W-single/base"
  int requests = 64;
  int in_flight = 32;
  int adapters = 0;  // 0: the base model
  AdapterShape shape;
  bool from_file = false;  // in_flight is then of the check only
  int registered = 0;      // adapters on the server, where more than `adapters`
  bool zipf = false;       // else request i is on adapter i mod adapters
  int idle_adapters = 0;   // loaded before, without a request when timed
  bool saturates = false;  // its rate is the saturation of open legs
  // Above 0: Poisson arrivals at this share of saturation. in_flight is then
  // of the check only.
  double open_share = 0;
  bool copies = false;  // else prompts of random tokens
  bool drafts = false;  // as the server has them, else none
  // The same prompts as the leg before it, which differs in `drafts` alone: the
  // tokens must be equal, and the ratio is to that leg.
  bool twin = false;
  bool has_twin = false;  // neither finds the other's prompts in a cache
  // With a server for the bench: one with these flags as well, and with nobody
  // else's adapters where it is the leg's own.
  std::vector<std::string> server_flags;
  bool own_server = false;
};

// Registered adapters from this index on are small and get no requests.
inline constexpr int kFullAdapters = 1000;
inline constexpr AdapterShape kSmallAdapter = {.rank = 1,
                                               .single_module = true};

// The legs of a workload; INVALID_ARGUMENT for a name not in the list above.
absl::StatusOr<std::vector<Leg>> WorkloadLegs(absl::string_view name);

// Each leg and behind it its twin with drafts.
std::vector<Leg> WithTwins(const std::vector<Leg>& legs);

// Name under which a bench adapter is uploaded: "bench-r8-qv-0",
// "bench-r16-all-0", "bench-r1-one-0".
std::string BenchAdapterName(const AdapterShape& shape, int index);

// The requests of one repetition of a leg. Prompts are random, fresh for every
// (seed, stream): callers use a stream once, but for twins. Deterministic.
std::vector<v1::GenerateRequest> LegRequests(const Leg& leg, uint64_t seed,
                                             uint64_t stream,
                                             int32_t vocab_size);

// Times in seconds after the start of `count` arrivals of a Poisson process of
// `rate` a second. Deterministic.
std::vector<double> PoissonArrivals(int count, double rate, uint64_t seed,
                                    uint64_t stream);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_WORKLOAD_H_
