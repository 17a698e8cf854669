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

template <size_t kCount>
std::string Pick(const char* const (&words)[kCount],
                 std::mt19937_64* generator) {
  return words[(*generator)() % kCount];
}

// "12. Maria Keller, 42 Mill Lane, Bremen, order 55018"
std::string Record(int number, std::mt19937_64* generator) {
  static constexpr const char* kFirst[] = {"Maria",  "Jonas", "Ayesha", "Tom",
                                           "Ingrid", "Pedro", "Wei",    "Sara"};
  static constexpr const char* kLast[] = {"Keller", "Okafor", "Lindqvist",
                                          "Moreno", "Tanaka", "Dubois",
                                          "Novak",  "Hughes"};
  static constexpr const char* kStreets[] = {"Mill Lane",      "Station Road",
                                             "Harbour Street", "Oak Avenue",
                                             "Church Hill",    "River Walk"};
  static constexpr const char* kCities[] = {
      "Bremen", "Porto", "Leeds", "Gdansk", "Malmo", "Lyon", "Trieste", "Cork"};
  const std::string first = Pick(kFirst, generator);
  const std::string last = Pick(kLast, generator);
  const std::string street = Pick(kStreets, generator);
  const std::string city = Pick(kCities, generator);
  return absl::StrCat(number, ". ", first, " ", last, ", ",
                      1 + (*generator)() % 200, " ", street, ", ", city,
                      ", order ", 10000 + (*generator)() % 90000, "\n");
}

// Records, and the beginning of a copy of them.
std::string CopyPrompt(std::mt19937_64* generator) {
  static constexpr int kRecords = 6;
  std::string text = "Delivery list:\n";
  std::string begun;
  for (int i = 1; i <= kRecords; ++i) {
    const std::string record = Record(i, generator);
    if (i == 1) begun = record;
    absl::StrAppend(&text, record);
  }
  return absl::StrCat(text, "\nThe same delivery list again:\n", begun);
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
  if (name == "W-many") {
    return std::vector<Leg>{
        {.name = "W-many/base", .requests = 128, .in_flight = 64},
        {.name = "W-many/adapters",
         .requests = 128,
         .in_flight = 64,
         .adapters = 64,
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
  if (name == "W-copy") {
    return WithTwins({{.name = "W-copy/single",
                       .requests = 8,
                       .in_flight = 1,
                       .copies = true},
                      {.name = "W-copy/eight",
                       .requests = 16,
                       .in_flight = 8,
                       .copies = true}});
  }
  if (name == "W-unused") {
    return std::vector<Leg>{
        {.name = "W-unused/none", .server_flags = {"--max-adapters=0"}},
        {.name = "W-unused/loaded", .shape = kWide, .idle_adapters = 32}};
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no workload \"", name,
      "\"; there are W-base, W-one, W-mixed, W-wide, W-single, "
      "W-eight, W-many, W-file, W-scale, W-open, W-copy, W-unused"));
}

std::vector<Leg> WithTwins(const std::vector<Leg>& legs) {
  std::vector<Leg> both;
  for (const Leg& leg : legs) {
    both.push_back(leg);
    both.back().has_twin = true;
    Leg twin = leg;
    absl::StrAppend(&twin.name, "+drafts");
    twin.drafts = true;
    twin.twin = true;
    twin.saturates = false;
    both.push_back(std::move(twin));
  }
  return both;
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
    if (leg.copies) request.set_text(CopyPrompt(&generator));
    for (int k = 0; k < kPromptTokens && !leg.copies; ++k) {
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
    if (!leg.drafts) request.set_max_draft_tokens(0);
    if (leg.twin || leg.has_twin) request.set_bypass_prefix_cache(true);
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
