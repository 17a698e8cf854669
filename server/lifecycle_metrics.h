// What the page of metrics says of adapters: where they are, how they got
// there, what the store holds.
#ifndef DESCANT_SERVER_LIFECYCLE_METRICS_H_
#define DESCANT_SERVER_LIFECYCLE_METRICS_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "adapters/store.h"
#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/registry.h"
#include "runtime/base/clock.h"
#include "runtime/engine.h"
#include "server/adapters_manifest.h"
#include "server/metric_family.h"
#include "server/security_metrics.h"
#include "server/usage_metrics.h"

namespace descant {

// Called by scrapes, on any thread.
struct LifecycleSources {
  std::function<EngineStats()> engine;
  std::function<StoreStats()> store;
  std::function<std::vector<ResidentAdapter>()> residents;
  // Null without a manifest.
  std::function<ManifestReport()> manifest;
  // Bytes held for requests and their answers; null: not counted.
  std::function<uint64_t()> request_memory;
  uint64_t request_memory_capacity = 0;
  // Connections; null: not counted.
  std::function<uint64_t()> refused_connections;
  std::function<uint64_t()> flooding_connections;
  // Null where tenants are off.
  std::function<bool()> tenants_stale;
  SecuritySources security;
  UsageSources usage;
};

// Thread-safe.
class LifecycleMetrics {
 public:
  // At most `max_series` adapters have a series of their own in
  // vllm:lora_adapter_loaded, those on the device first.
  LifecycleMetrics(LifecycleSources sources, MetricLabels gateway_labels,
                   size_t max_series);

  // An adapter came to `level` after `took`.
  void ObserveLoad(AdapterLevel level, Duration took);

  void Collect(std::vector<prometheus::MetricFamily>* families) const;

 private:
  void CollectTiers(std::vector<prometheus::MetricFamily>* families) const;
  void CollectStore(std::vector<prometheus::MetricFamily>* families) const;
  void CollectResidents(std::vector<prometheus::MetricFamily>* families) const;
  void CollectManifest(std::vector<prometheus::MetricFamily>* families) const;

  const LifecycleSources sources_;
  const MetricLabels gateway_labels_;  // model_name, engine
  const size_t max_series_;
  prometheus::Registry registry_;
  // Owned by registry_.
  prometheus::Histogram* gateway_load_seconds_ = nullptr;
  prometheus::Histogram* device_load_seconds_ = nullptr;
  prometheus::Histogram* host_load_seconds_ = nullptr;
};

}  // namespace descant

#endif  // DESCANT_SERVER_LIFECYCLE_METRICS_H_
