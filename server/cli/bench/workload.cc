#include "server/cli/bench/workload.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

constexpr AdapterShape kNarrow = {.rank = 8, .all_linear = false};
constexpr AdapterShape kWide = {.rank = 16, .all_linear = true};

Leg ScaleLeg(int registered) {
  return {.name = absl::StrCat("W-scale/", registered),
          .adapters = std::min(registered, kFullAdapters),
          .shape = kNarrow,
          .registered = registered,
          .zipf = true,
          .own_server = true};
}

std::vector<Leg> OpenLegs() {
  const Leg closed = {.name = "W-open/saturated",
                      .requests = 128,
                      .adapters = 32,
                      .shape = kNarrow,
                      .saturates = true};
  std::vector<Leg> legs = {closed};
  for (const int percent : {50, 80}) {
    Leg leg = closed;
    leg.name = absl::StrCat("W-open/", percent, "%");
    leg.saturates = false;
    leg.open_share = percent / 100.0;
    legs.push_back(std::move(leg));
  }
  return legs;
}

// Uniform in [0, 1), the same with every standard library.
double Uniform(std::mt19937_64* generator) {
  return static_cast<double>((*generator)() >> 11) * 0x1p-53;
}

// sums[k]: of 1 / (i + 1) over i <= k.
std::vector<double> HarmonicSums(int count) {
  std::vector<double> sums(count);
  double sum = 0;
  for (int i = 0; i < count; ++i) sums[i] = sum += 1.0 / (i + 1);
  return sums;
}

std::mt19937_64 GeneratorOf(uint64_t seed, uint64_t stream) {
  // A seed_seq keeps 32 bits of each.
  std::seed_seq seeds{seed, seed >> 32, stream, stream >> 32};
  return std::mt19937_64(seeds);
}

}  // namespace

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
  if (name == "W-scale") {
    return std::vector<Leg>{ScaleLeg(100), ScaleLeg(1000), ScaleLeg(10000)};
  }
  for (const int registered : {100, 1000, 10000}) {
    if (name == absl::StrCat("W-scale-", registered)) {
      return std::vector<Leg>{ScaleLeg(registered)};
    }
  }
  if (name == "W-open") return OpenLegs();
  if (name == "W-unused") {
    return std::vector<Leg>{
        {.name = "W-unused/none", .server_flags = {"--max-adapters=0"}},
        {.name = "W-unused/loaded", .shape = kWide, .idle_adapters = 32}};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no workload \"", name,
                   "\"; there are W-base, W-one, W-mixed, W-wide, W-single, "
                   "W-eight, W-file, W-scale, W-open, W-unused"));
}

std::string BenchAdapterName(const AdapterShape& shape, int index) {
  return absl::StrCat(
      "bench-r", shape.rank,
      shape.single_module ? "-one-" : (shape.all_linear ? "-all-" : "-qv-"),
      index);
}

std::vector<v1::GenerateRequest> LegRequests(const Leg& leg, uint64_t seed,
                                             uint64_t stream,
                                             int32_t vocab_size) {
  std::mt19937_64 generator = GeneratorOf(seed, stream);
  const std::vector<double> sums = HarmonicSums(leg.zipf ? leg.adapters : 0);
  std::vector<v1::GenerateRequest> requests(leg.requests);
  for (int i = 0; i < leg.requests; ++i) {
    v1::GenerateRequest& request = requests[i];
    for (int k = 0; k < kPromptTokens; ++k) {
      // The bias of a remainder is of no account here; it is the same with
      // every standard library, as a std::distribution is not.
      request.mutable_token_ids()->add_ids(static_cast<int64_t>(
          generator() % static_cast<uint64_t>(vocab_size)));
    }
    int adapter = leg.adapters > 0 ? i % leg.adapters : 0;
    if (leg.zipf) {
      const double at = Uniform(&generator) * sums.back();
      adapter = static_cast<int>(
          std::upper_bound(sums.begin(), sums.end() - 1, at) - sums.begin());
    }
    if (leg.adapters > 0) {
      request.set_adapter_id(BenchAdapterName(leg.shape, adapter));
    }
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_tokens(kOutputTokens);
    request.mutable_stopping()->set_ignore_eos(true);
    request.mutable_output()->set_token_ids(true);
  }
  return requests;
}

std::vector<double> PoissonArrivals(int count, double rate, uint64_t seed,
                                    uint64_t stream) {
  std::mt19937_64 generator = GeneratorOf(seed, ~stream);
  std::vector<double> times(count);
  double time = 0;
  for (double& arrival : times) {
    arrival = time;
    time -= std::log1p(-Uniform(&generator)) / rate;
  }
  return times;
}

}  // namespace descant::cli
