#include "server/cli/bench/report.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
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

// Of a twin, to the leg before it; of another leg, to the first. The first has
// none.
const LegTimes* BaseOf(const BenchReport& report, size_t index) {
  if (report.legs[index].leg.twin) return &report.legs[index - 1];
  return index == 0 ? nullptr : &report.legs.front();
}

Json LegJson(const LegTimes& times, const LegTimes* base) {
  const Leg& leg = times.leg;
  Json json = {
      {"name", leg.name},
      {"server", times.server},
      {"requests", leg.requests},
      {"in_flight", leg.in_flight},
      {"adapters", leg.adapters},
      {"rank", leg.adapters > 0 ? leg.shape.rank : 0},
      {"output_tokens", kOutputTokens},
      {"output_tokens_per_s", IntervalJson(MedianOf(times.tokens_per_s))},
      {"runs", times.tokens_per_s},
      {"ttft_ms", QuantilesJson(times.ttft_ms)},
      {"itl_ms", QuantilesJson(times.itl_ms)}};
  if (leg.open_share > 0) {
    json["open_share"] = leg.open_share;
    json["late_ms"] = QuantilesJson(times.late_ms);
  }
  if (!leg.copies) json["prompt_tokens"] = kPromptTokens;
  if (leg.registered > 0) json["registered"] = leg.registered;
  if (base != nullptr) {
    json["ratio"] = IntervalJson(MedianOf(Ratios(times, *base)));
    json["ratio_to"] = base->leg.name;
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

Json ServerJson(const ServerFacts& server) {
  Json json = {{"flags", server.flags},
               {"registered", server.registered},
               {"registration_s", server.registration_seconds}};
  if (server.bytes_at_start > 0) {
    json["ready_s"] = server.ready_seconds;
    json["bytes_at_start"] = server.bytes_at_start;
    json["bytes_registered"] = server.bytes_registered;
    json["bytes_at_end"] = server.bytes_at_end;
  }
  return json;
}

std::string MiB(uint64_t bytes) {
  return absl::StrFormat("%.1f", static_cast<double>(bytes) / (1 << 20));
}

// "2026-11-24T02:47:04Z".
std::string DateNow() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(),
                          absl::UTCTimeZone());
}

using Rows = std::vector<std::vector<std::string>>;

// The first row has the titles.
Rows LegRows(const BenchReport& report) {
  const LegTimes& first = report.legs.front();
  Rows rows = {{"workload", "output tokens/s", "TTFT ms p50 / p99",
                "ITL ms p50 / p99", "ITL p99 : p50",
                absl::StrCat("ratio to ", first.leg.name)}};
  for (size_t i = 0; i < report.legs.size(); ++i) {
    const LegTimes& leg = report.legs[i];
    const LegTimes* base = BaseOf(report, i);
    rows.push_back(
        {leg.leg.name, IntervalText(MedianOf(leg.tokens_per_s), "%.0f"),
         QuantilesText(leg.ttft_ms), QuantilesText(leg.itl_ms),
         leg.itl_ms.empty()
             ? "-"
             : absl::StrFormat("%.1f", Quantile(leg.itl_ms, 0.99) /
                                           Quantile(leg.itl_ms, 0.5)),
         base == nullptr
             ? ""
             : absl::StrCat(IntervalText(MedianOf(Ratios(leg, *base)), "%.3f"),
                            base == &first
                                ? ""
                                : absl::StrCat(" to ", base->leg.name))});
  }
  return rows;
}

Rows ServerRows(const BenchReport& report) {
  Rows rows = {{"server", "ready s", "registered", "registration s",
                "MiB at start", "registered", "at end", "KiB an adapter"}};
  for (const ServerFacts& server : report.servers) {
    const double grown = static_cast<double>(server.bytes_registered) -
                         static_cast<double>(server.bytes_at_start);
    rows.push_back(
        {server.flags.empty() ? "(default)" : server.flags,
         absl::StrFormat("%.2f", server.ready_seconds),
         absl::StrCat(server.registered),
         absl::StrFormat("%.1f", server.registration_seconds),
         MiB(server.bytes_at_start), MiB(server.bytes_registered),
         MiB(server.bytes_at_end),
         server.registered == 0
             ? "-"
             : absl::StrFormat("%.1f", grown / 1024 / server.registered)});
  }
  return rows;
}

std::string Aligned(const Rows& rows) {
  std::vector<Column> columns;
  for (const std::string& title : rows.front()) {
    columns.push_back({title, columns.empty() ? Align::kLeft : Align::kRight});
  }
  Table table(std::move(columns));
  for (size_t i = 1; i < rows.size(); ++i) table.AddRow(rows[i]);
  return table.Render();
}

std::string Markdown(const Rows& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    absl::StrAppend(&text, "| ", absl::StrJoin(rows[i], " | "), " |\n");
    if (i > 0) continue;
    absl::StrAppend(&text, "| ---");
    for (size_t k = 1; k < rows[i].size(); ++k) {
      absl::StrAppend(&text, " | ---:");
    }
    absl::StrAppend(&text, " |\n");
  }
  return text;
}

// What was measured, how often, on what and when.
std::string Circumstances(const BenchReport& report) {
  const size_t repetitions = report.legs.front().tokens_per_s.size();
  return absl::StrCat(
      "medians of ", repetitions, " repetitions",
      repetitions < 6 ? "" : " [95 % interval]", ", seed ", report.seed, "\n",
      CpuModel(), ", ", Cores(), " cores; ", report.model.device(), "; ",
      report.model.name(), "; descant ", report.model.server_version(),
      report.commit.empty() ? "" : absl::StrCat(" ", report.commit), "; ",
      DateNow(), "\n");
}

// Without a server of the bench's own there is nothing to say.
bool HasServerFacts(const BenchReport& report) {
  return !report.servers.empty() && report.servers.front().bytes_at_start > 0;
}

}  // namespace

void LegTimes::Add(const LoadResult& result) {
  tokens_per_s.push_back(result.OutputTokensPerSecond());
  output_tokens += result.OutputTokens();
  seconds += result.seconds;
  for (const StreamedAnswer& answer : result.answers) {
    if (leg.from_file) continue;  // not streamed
    ttft_ms.push_back(answer.ttft_ms);
    if (leg.open_share > 0) late_ms.push_back(answer.late_ms);
    itl_ms.insert(itl_ms.end(), answer.itl_ms.begin(), answer.itl_ms.end());
  }
}

Json ReportJson(const BenchReport& report) {
  const LegTimes& first = report.legs.front();
  Json legs = Json::array();
  for (size_t i = 0; i < report.legs.size(); ++i) {
    legs.push_back(LegJson(report.legs[i], BaseOf(report, i)));
  }
  Json servers = Json::array();
  for (const ServerFacts& server : report.servers) {
    servers.push_back(ServerJson(server));
  }
  return {{"workload", first.leg.name},
          {"output_tokens_per_s", MedianOf(first.tokens_per_s).median},
          {"ttft_ms", QuantilesJson(first.ttft_ms)},
          {"itl_ms", QuantilesJson(first.itl_ms)},
          {"seed", report.seed},
          {"repetitions", first.tokens_per_s.size()},
          {"valid", true},
          {"legs", legs},
          {"servers", servers},
          {"machine",
           {{"cpu", CpuModel()},
            {"cores", Cores()},
            {"device", report.model.device()}}},
          {"model", report.model.name()},
          {"server_version", report.model.server_version()},
          {"commit", report.commit},
          {"date", DateNow()}};
}

std::string ReportText(const BenchReport& report) {
  return absl::StrCat(Aligned(LegRows(report)),
                      HasServerFacts(report) ? Aligned(ServerRows(report)) : "",
                      Circumstances(report));
}

std::string ReportMarkdown(const BenchReport& report) {
  return absl::StrCat(Markdown(LegRows(report)), "\n",
                      HasServerFacts(report)
                          ? absl::StrCat(Markdown(ServerRows(report)), "\n")
                          : "",
                      Circumstances(report));
}

}  // namespace descant::cli
