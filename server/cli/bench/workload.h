// The named workloads, all closed-loop, greedy, with end-of-sequence ignored:
//   W-base    64 requests, 32 in flight, prompt 128, output 64, no adapter
//   W-one     the same, all on one adapter (rank 8, q_proj and v_proj)
//   W-mixed   the same, 32 adapters, request i on adapter i mod 32
//   W-wide    W-mixed with rank 16 on all seven linear modules
//   W-single  1 in flight: base, then one adapter
//   W-eight   8 in flight, 16 requests: base, then 8 adapters
//   W-file    1,000 requests as W-mixed's, as lines of a file that `descant
//             run` answers with its default concurrency
// A workload of two parts is two legs.
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
  bool all_linear = false;  // else q_proj and v_proj

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
};

// The legs of a workload; INVALID_ARGUMENT for a name not in the list above.
absl::StatusOr<std::vector<Leg>> WorkloadLegs(absl::string_view name);

// Name under which a bench adapter is uploaded: "bench-r8-qv-0".
std::string BenchAdapterName(const AdapterShape& shape, int index);

// The requests of one repetition of a leg. Prompts are random tokens, fresh
// for every (seed, stream): callers use a stream once. Deterministic.
std::vector<v1::GenerateRequest> LegRequests(const Leg& leg, uint64_t seed,
                                             uint64_t stream,
                                             int32_t vocab_size);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_BENCH_WORKLOAD_H_
