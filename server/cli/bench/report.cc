#include "server/cli/bench/report.h"

#include <sched.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/cli/bench/statistics.h"
#include "server/cli/table.h"

namespace descant::cli {
namespace {

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (absl::StartsWith(line, "model name")) {
      return std::string(
          absl::StripAsciiWhitespace(line.substr(line.find(':') + 1)));
    }
  }
  return "unknown";
}

// CPUs this process may use.
int Cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
}

Json IntervalJson(const MedianInterval& interval) {
  Json json = {
      {"median", interval.median}, {"low", nullptr}, {"high", nullptr}};
  if (interval.low) json["low"] = *interval.low;
  if (interval.high) json["high"] = *interval.high;
  return json;
}

Json QuantilesJson(const std::vector<double>& samples) {
  if (samples.empty()) return {{"p50", nullptr}, {"p99", nullptr}};
  return {{"p50", Quantile(samples, 0.5)}, {"p99", Quantile(samples, 0.99)}};
}

std::vector<double> Ratios(const LegTimes& leg, const LegTimes& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < leg.tokens_per_s.size(); ++i) {
    ratios.push_back(leg.tokens_per_s[i] / base.tokens_per_s[i]);
  }
  return ratios;
}

Json LegJson(const LegTimes& times, const LegTimes& base) {
  const Leg& leg = times.leg;
  Json json = {
      {"name", leg.name},
      {"requests", leg.requests},
      {"in_flight", leg.in_flight},
      {"adapters", leg.adapters},
      {"rank", leg.adapters > 0 ? leg.shape.rank : 0},
      {"prompt_tokens", kPromptTokens},
      {"output_tokens", kOutputTokens},
      {"output_tokens_per_s", IntervalJson(MedianOf(times.tokens_per_s))},
      {"runs", times.tokens_per_s},
      {"ttft_ms", QuantilesJson(times.ttft_ms)},
      {"itl_ms", QuantilesJson(times.itl_ms)}};
  if (&times != &base) {
    json["ratio"] = IntervalJson(MedianOf(Ratios(times, base)));
  }
  return json;
}

std::string IntervalText(const MedianInterval& interval, const char* format) {
  const auto number = [&](double value) {
    return absl::StrFormat(*absl::ParsedFormat<'f'>::New(format), value);
  };
  std::string text = number(interval.median);
  if (interval.low && interval.high) {
    absl::StrAppend(&text, " [", number(*interval.low), ", ",
                    number(*interval.high), "]");
  }
  return text;
}

std::string QuantilesText(const std::vector<double>& samples) {
  if (samples.empty()) return "-";
  return absl::StrFormat("%.1f / %.1f", Quantile(samples, 0.5),
                         Quantile(samples, 0.99));
}

}  // namespace

void LegTimes::Add(const LoadResult& result) {
  tokens_per_s.push_back(result.OutputTokensPerSecond());
  output_tokens += result.OutputTokens();
  seconds += result.seconds;
  for (const StreamedAnswer& answer : result.answers) {
    if (leg.from_file) continue;  // not streamed
    ttft_ms.push_back(answer.ttft_ms);
    itl_ms.insert(itl_ms.end(), answer.itl_ms.begin(), answer.itl_ms.end());
  }
}

Json ReportJson(const BenchReport& report) {
  const LegTimes& first = report.legs.front();
  Json legs = Json::array();
  for (const LegTimes& leg : report.legs) legs.push_back(LegJson(leg, first));
  return {{"workload", first.leg.name},
          {"output_tokens_per_s", MedianOf(first.tokens_per_s).median},
          {"ttft_ms", QuantilesJson(first.ttft_ms)},
          {"itl_ms", QuantilesJson(first.itl_ms)},
          {"seed", report.seed},
          {"repetitions", first.tokens_per_s.size()},
          {"valid", true},
          {"legs", legs},
          {"machine",
           {{"cpu", CpuModel()},
            {"cores", Cores()},
            {"device", report.model.device()}}},
          {"model", report.model.name()},
          {"server_version", report.model.server_version()}};
}

std::string ReportText(const BenchReport& report) {
  const LegTimes& first = report.legs.front();
  Table table({{"workload"},
               {"output tokens/s", Align::kRight},
               {"TTFT ms p50 / p99", Align::kRight},
               {"ITL ms p50 / p99", Align::kRight},
               {absl::StrCat("ratio to ", first.leg.name), Align::kRight}});
  for (const LegTimes& leg : report.legs) {
    table.AddRow(
        {leg.leg.name, IntervalText(MedianOf(leg.tokens_per_s), "%.0f"),
         QuantilesText(leg.ttft_ms), QuantilesText(leg.itl_ms),
         &leg == &first ? ""
                        : IntervalText(MedianOf(Ratios(leg, first)), "%.3f")});
  }
  return absl::StrCat(
      table.Render(), "medians of ", first.tokens_per_s.size(), " repetitions",
      first.tokens_per_s.size() < 6 ? "" : " [95 % interval]", ", seed ",
      report.seed, "\n", CpuModel(), ", ", Cores(), " cores; ",
      report.model.device(), "; ", report.model.name(), "; descant ",
      report.model.server_version(), "\n");
}

}  // namespace descant::cli
