#include "server/cli/bench/workload.h"

#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace descant::cli {

constexpr AdapterShape kNarrow = {.rank = 8, .all_linear = false};
constexpr AdapterShape kWide = {.rank = 16, .all_linear = true};

absl::StatusOr<std::vector<Leg>> WorkloadLegs(absl::string_view name) {
  if (name == "W-base") {
    return std::vector<Leg>{{.name = "W-base"}};
  }
  if (name == "W-one") {
    return std::vector<Leg>{{.name = "W-one", .adapters = 1, .shape = kNarrow}};
  }
  if (name == "W-mixed") {
    return std::vector<Leg>{
        {.name = "W-mixed", .adapters = 32, .shape = kNarrow}};
  }
  if (name == "W-wide") {
    return std::vector<Leg>{{.name = "W-wide", .adapters = 32, .shape = kWide}};
  }
  if (name == "W-single") {
    return std::vector<Leg>{
        {.name = "W-single/base", .requests = 4, .in_flight = 1},
        {.name = "W-single/adapter",
         .requests = 4,
         .in_flight = 1,
         .adapters = 1,
         .shape = kNarrow}};
  }
  if (name == "W-eight") {
    return std::vector<Leg>{
        {.name = "W-eight/base", .requests = 16, .in_flight = 8},
        {.name = "W-eight/adapters",
         .requests = 16,
         .in_flight = 8,
         .adapters = 8,
         .shape = kNarrow}};
  }
  if (name == "W-file") {
    return std::vector<Leg>{{.name = "W-file",
                             .requests = 1000,
                             .adapters = 32,
                             .shape = kNarrow,
                             .from_file = true}};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no workload \"", name,
                   "\"; there are W-base, W-one, W-mixed, W-wide, W-single, "
                   "W-eight, W-file"));
}

std::string BenchAdapterName(const AdapterShape& shape, int index) {
  return absl::StrCat("bench-r", shape.rank,
                      shape.all_linear ? "-all-" : "-qv-", index);
}

std::vector<v1::GenerateRequest> LegRequests(const Leg& leg, uint64_t seed,
                                             uint64_t stream,
                                             int32_t vocab_size) {
  // A seed_seq keeps 32 bits of each.
  std::seed_seq seeds{seed, seed >> 32, stream, stream >> 32};
  std::mt19937_64 generator(seeds);
  std::vector<v1::GenerateRequest> requests(leg.requests);
  for (int i = 0; i < leg.requests; ++i) {
    v1::GenerateRequest& request = requests[i];
    for (int k = 0; k < kPromptTokens; ++k) {
      // The bias of a remainder is of no account here; it is the same with
      // every standard library, as a std::distribution is not.
      request.mutable_token_ids()->add_ids(static_cast<int64_t>(
          generator() % static_cast<uint64_t>(vocab_size)));
    }
    if (leg.adapters > 0) {
      request.set_adapter_id(BenchAdapterName(leg.shape, i % leg.adapters));
    }
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_tokens(kOutputTokens);
    request.mutable_stopping()->set_ignore_eos(true);
    request.mutable_output()->set_token_ids(true);
  }
  return requests;
}

}  // namespace descant::cli
