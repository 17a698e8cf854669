#include "server/merge_metrics.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "server/metric_family.h"

namespace descant {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

void CollectAdapters(const MergeStats& stats, size_t max_series,
                     std::vector<MetricFamily>* families) {
  std::vector<MergeStats::Adapter> merged = stats.merged;
  std::stable_sort(merged.begin(), merged.end(),
                   [](const auto& a, const auto& b) {
                     return a.merged_steps > b.merged_steps;
                   });
  if (merged.size() > max_series) merged.resize(max_series);
  MetricFamily info =
      MakeFamily("descant_merged_adapter_info",
                 "1 while the adapter has merged weights.", MetricType::Gauge);
  MetricFamily gain = MakeFamily(
      "descant_merge_gain_ratio",
      "Share of a step's time that merging the adapter saves, as measured.",
      MetricType::Gauge);
  // Two versions of a name may be merged: one series a label set.
  std::set<std::string> labels;
  for (const MergeStats::Adapter& adapter : merged) {
    AddSeries(1, {{"adapter", adapter.label}, {"digest", adapter.digest}},
              &info);
    if (!adapter.gain.has_value()) continue;
    if (!labels.insert(adapter.label).second) continue;
    AddSeries(*adapter.gain, {{"adapter", adapter.label}}, &gain);
  }
  for (MetricFamily* family : {&info, &gain}) {
    if (!family->metric.empty()) families->push_back(std::move(*family));
  }
}

}  // namespace

void CollectMerges(const MergeStats& stats, size_t max_series,
                   std::vector<MetricFamily>* families) {
  const auto counter = [families](const char* name, const char* help,
                                  double value) {
    AddSingle(name, help, MetricType::Counter, value, {}, families);
  };
  counter("descant_merge_steps_total", "Forward passes with merged weights.",
          static_cast<double>(stats.merged_steps));
  counter("descant_merge_switches_total",
          "Changes from steps with merged weights to those without, or back.",
          static_cast<double>(stats.switches));
  MetricFamily builds = MakeFamily(
      "descant_merge_builds_total",
      "Builds of merged weights, by what came of them.", MetricType::Counter);
  const auto add_outcome = [&builds](const char* outcome, uint64_t count) {
    AddSeries(static_cast<double>(count), {{"outcome", outcome}}, &builds);
  };
  add_outcome("ok", stats.builds);
  add_outcome("failed", stats.failed_builds);
  add_outcome("refused", stats.refused);
  families->push_back(std::move(builds));
  counter("descant_merge_build_seconds_total",
          "Work of these builds, in seconds of one core.", stats.build_seconds);
  counter("descant_merge_measure_seconds_total",
          "Time of steps computed once more to measure or to check.",
          stats.measure_seconds);
  counter("descant_merge_saved_seconds_total",
          "Time that merged steps saved, estimated.", stats.saved_seconds);
  const auto gauge = [families](const char* name, const char* help,
                                uint64_t value) {
    AddSingle(name, help, MetricType::Gauge, static_cast<double>(value), {},
              families);
  };
  gauge("descant_merge_memory_bytes",
        "Memory of merged weights, those being built included.",
        stats.memory_used);
  gauge("descant_merge_memory_capacity_bytes", "Memory there is for them.",
        stats.memory_capacity);
  CollectAdapters(stats, max_series, families);
}

}  // namespace descant
