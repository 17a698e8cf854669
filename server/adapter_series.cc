#include "server/adapter_series.h"

#include <algorithm>
#include <utility>

namespace descant {
namespace {

constexpr size_t kMaxCandidates = 1024;

prometheus::MetricFamily CounterFamily(const char* name, const char* help) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Counter;
  return family;
}

void AddCounter(const std::string& adapter, uint64_t value,
                prometheus::MetricFamily* family) {
  prometheus::ClientMetric metric;
  metric.label.push_back({"adapter", adapter});
  metric.counter.value = static_cast<double>(value);
  family->metric.push_back(std::move(metric));
}

}  // namespace

AdapterSeries::Counts* AdapterSeries::Find(const std::string& adapter) {
  const auto it = tracked_.find(adapter);
  if (it != tracked_.end()) return &it->second;
  if (tracked_.size() < max_series_) return &tracked_[adapter];

  if (candidates_.size() >= kMaxCandidates) candidates_.clear();
  const uint64_t requests = ++candidates_[adapter];
  const auto least = std::min_element(
      tracked_.begin(), tracked_.end(), [](const auto& a, const auto& b) {
        return a.second.requests < b.second.requests;
      });
  if (least == tracked_.end() || requests <= least->second.requests) {
    any_other_ = true;
    return &other_;
  }
  candidates_.erase(adapter);
  candidates_[least->first] = least->second.requests;
  tracked_.erase(least);
  return &tracked_[adapter];
}

void AdapterSeries::Record(absl::string_view adapter, absl::string_view digest,
                           bool failed, uint64_t prompt_tokens,
                           uint64_t generated_tokens) {
  MutexLock lock(&mutex_);
  Counts* counts = Find(std::string(adapter));
  counts->digest = std::string(digest);
  counts->requests += 1;
  counts->failures += failed ? 1 : 0;
  counts->prompt_tokens += prompt_tokens;
  counts->generated_tokens += generated_tokens;
}

void AdapterSeries::Forget(absl::string_view adapter) {
  MutexLock lock(&mutex_);
  tracked_.erase(std::string(adapter));
  candidates_.erase(std::string(adapter));
}

void AdapterSeries::Collect(
    std::vector<prometheus::MetricFamily>* families) const {
  auto requests = CounterFamily("descant_adapter_requests_total",
                                "Generations that ended, by adapter.");
  auto failures =
      CounterFamily("descant_adapter_failures_total",
                    "Generations that ended without an answer, by adapter.");
  auto prompt = CounterFamily("descant_adapter_prompt_tokens_total",
                              "Prompt tokens, by adapter.");
  auto generated = CounterFamily("descant_adapter_generated_tokens_total",
                                 "Generated tokens, by adapter.");
  prometheus::MetricFamily info;
  info.name = "descant_adapter_info";
  info.help = "The digest an adapter's name stood for when last used.";
  info.type = prometheus::MetricType::Gauge;

  const auto add = [&](const std::string& adapter, const Counts& counts) {
    AddCounter(adapter, counts.requests, &requests);
    AddCounter(adapter, counts.failures, &failures);
    AddCounter(adapter, counts.prompt_tokens, &prompt);
    AddCounter(adapter, counts.generated_tokens, &generated);
  };
  {
    MutexLock lock(&mutex_);
    for (const auto& [adapter, counts] : tracked_) {
      add(adapter, counts);
      if (counts.digest.empty()) continue;
      prometheus::ClientMetric metric;
      metric.label.push_back({"adapter", adapter});
      metric.label.push_back({"digest", counts.digest});
      metric.gauge.value = 1;
      info.metric.push_back(std::move(metric));
    }
    if (any_other_) add("other", other_);
  }
  for (auto* family : {&requests, &failures, &prompt, &generated, &info}) {
    if (!family->metric.empty()) families->push_back(std::move(*family));
  }
}

}  // namespace descant
