// The Prometheus page: the names inference gateways read ("vllm:*") and our
// own ("descant_*"). A scrape takes the engine's snapshot and this class's own
// locks, never one that the engine holds over a step.
#ifndef DESCANT_SERVER_METRICS_H_
#define DESCANT_SERVER_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"
#include "server/adapter_series.h"
#include "server/lifecycle_metrics.h"
#include "server/metric_family.h"

namespace descant {

struct MetricsOptions {
  std::string model_name;
  std::string version;
  std::string device;
  std::string base_fingerprint;
  int32_t max_model_len = 0;
  size_t max_adapter_series = 0;
};

// One generation that ended, whatever the way.
struct GenerationRecord {
  std::string adapter;  // its AdapterLabel; "" is the base model
  std::string digest;   // "" for the base model
  FinishReason reason = FinishReason::kNone;
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  bool uses_prefix_cache = false;
  int32_t generated_tokens = 0;
  int32_t max_tokens = 0;
  Duration end_to_end{};
  RequestTimings timings;
};

// Thread-safe.
class Metrics final : public prometheus::Collectable {
 public:
  // `clock` outlives this.
  Metrics(const MetricsOptions& options, LifecycleSources sources,
          const Clock* clock);

  void ObserveFirstToken(Duration since_arrival);
  void ObserveInterToken(Duration since_last);
  void RecordGeneration(const GenerationRecord& record);
  // A call that was refused or failed before the engine saw it.
  void RecordRefusal(absl::string_view rpc, absl::string_view code);
  void RecordUpload(absl::string_view code, uint64_t bytes, Duration took);
  // An adapter came to `level` after `took`.
  void ObserveAdapterLoad(AdapterLevel level, Duration took);
  void RecordScrape();
  // The adapter's series end.
  void ForgetAdapter(absl::string_view adapter);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  using Histogram = prometheus::Histogram;

  Histogram* MakeHistogram(const std::string& name, const std::string& help,
                           const std::vector<double>& buckets);
  void MakeHistograms();
  void MakeCounters();
  void CollectEngine(std::vector<prometheus::MetricFamily>* families) const;
  void CollectResidency(const EngineStats& stats,
                        std::vector<prometheus::MetricFamily>* families) const;

  const MetricsOptions options_;
  const std::function<EngineStats()> stats_;
  const Clock* const clock_;
  const MetricLabels gateway_labels_;  // model_name, engine
  prometheus::Registry registry_;

  // Owned by registry_.
  Histogram* ttft_ = nullptr;
  Histogram* inter_token_ = nullptr;
  Histogram* end_to_end_ = nullptr;
  Histogram* queue_ = nullptr;
  Histogram* inference_ = nullptr;
  Histogram* prefill_ = nullptr;
  Histogram* decode_ = nullptr;
  Histogram* prompt_tokens_ = nullptr;
  Histogram* generation_tokens_ = nullptr;
  Histogram* max_tokens_ = nullptr;
  Histogram* own_ttft_ = nullptr;
  Histogram* own_inter_token_ = nullptr;
  Histogram* upload_seconds_ = nullptr;
  std::map<FinishReason, prometheus::Counter*> finished_;
  prometheus::Counter* cached_tokens_ = nullptr;
  prometheus::Counter* prefix_queries_ = nullptr;
  prometheus::Counter* prefix_hits_ = nullptr;
  prometheus::Counter* upload_bytes_ = nullptr;
  prometheus::Counter* scrapes_ = nullptr;
  prometheus::Family<prometheus::Counter>* refusals_ = nullptr;
  prometheus::Family<prometheus::Counter>* uploads_ = nullptr;

  AdapterSeries adapters_;
  LifecycleMetrics lifecycle_;
};

// The text of the page, as the listener sends it.
std::string RenderMetrics(const Metrics& metrics);

}  // namespace descant

#endif  // DESCANT_SERVER_METRICS_H_
