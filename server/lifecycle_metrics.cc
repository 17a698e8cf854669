#include "server/lifecycle_metrics.h"

#include <algorithm>
#include <utility>

#include "server/edge_context.h"
#include "server/merge_metrics.h"

namespace descant {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using Families = std::vector<MetricFamily>;

const std::vector<double> kLoadBuckets = {
    .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30};

// Levels as the gateways' protocol calls them: "gpu" is the device, whatever it
// is.
const char* GatewayLevel(AdapterLevel level) {
  return level == AdapterLevel::kDevice ? "gpu" : "cpu";
}

int CountAt(const std::vector<ResidentAdapter>& residents, AdapterLevel level) {
  return static_cast<int>(std::count_if(
      residents.begin(), residents.end(),
      [level](const ResidentAdapter& r) { return r.level == level; }));
}

}  // namespace

LifecycleMetrics::LifecycleMetrics(LifecycleSources sources,
                                   MetricLabels gateway_labels,
                                   size_t max_series)
    : sources_(std::move(sources)),
      gateway_labels_(std::move(gateway_labels)),
      max_series_(max_series) {
  gateway_load_seconds_ =
      &prometheus::BuildHistogram()
           .Name("vllm:lora_adapter_load_seconds")
           .Help("From wanting an adapter on the device to having it there.")
           .Labels(gateway_labels_)
           .Register(registry_)
           .Add({}, kLoadBuckets);
  auto& loads = prometheus::BuildHistogram()
                    .Name("descant_adapter_load_seconds")
                    .Help("From wanting an adapter at a level to having it.")
                    .Register(registry_);
  device_load_seconds_ = &loads.Add({{"level", "device"}}, kLoadBuckets);
  host_load_seconds_ = &loads.Add({{"level", "host"}}, kLoadBuckets);
}

void LifecycleMetrics::ObserveLoad(AdapterLevel level, Duration took) {
  const double seconds = ToSeconds(took);
  if (level == AdapterLevel::kDevice) {
    gateway_load_seconds_->Observe(seconds);
    device_load_seconds_->Observe(seconds);
  } else {
    host_load_seconds_->Observe(seconds);
  }
}

void LifecycleMetrics::Collect(Families* families) const {
  for (MetricFamily& family : registry_.Collect()) {
    families->push_back(std::move(family));
  }
  CollectTiers(families);
  CollectStore(families);
  CollectResidents(families);
  CollectMerges(sources_.engine().merges, max_series_, families);
  if (sources_.manifest != nullptr) CollectManifest(families);
  if (sources_.request_memory != nullptr) {
    AddSingle("descant_request_memory_bytes",
              "Memory of requests under way and their answers.",
              MetricType::Gauge, static_cast<double>(sources_.request_memory()),
              {}, families);
    AddSingle("descant_request_memory_capacity_bytes",
              "Memory there is for them.", MetricType::Gauge,
              static_cast<double>(sources_.request_memory_capacity), {},
              families);
  }
  if (sources_.refused_connections != nullptr) {
    AddSingle(
        "descant_refused_connections_total",
        "Connections closed because there were too many.", MetricType::Counter,
        static_cast<double>(sources_.refused_connections()), {}, families);
  }
  if (sources_.flooding_connections != nullptr) {
    AddSingle("descant_flooding_connections_total",
              "Connections closed because their client flooded them.",
              MetricType::Counter,
              static_cast<double>(sources_.flooding_connections()), {},
              families);
  }
  const bool stale = sources_.tenants_stale && sources_.tenants_stale();
  AddSingle("descant_tenants_stale",
            "1 where the tenants file could not be read again.",
            MetricType::Gauge, stale ? 1 : 0, {}, families);
  CollectSecurity(sources_.security, families);
  CollectUsage(sources_.usage, families);
}

void LifecycleMetrics::CollectTiers(Families* families) const {
  const EngineStats stats = sources_.engine();
  const auto levels = [families](const char* name, const char* help,
                                 MetricType type, uint64_t device,
                                 uint64_t host) {
    families->push_back(MakeFamily(name, help, type));
    AddSeries(static_cast<double>(device), {{"level", "device"}},
              &families->back());
    AddSeries(static_cast<double>(host), {{"level", "host"}},
              &families->back());
  };
  levels("descant_adapter_level_bytes", "Bytes of adapters at a level.",
         MetricType::Gauge, stats.device_bytes, stats.host_bytes);
  levels("descant_adapter_level_capacity_bytes",
         "Bytes there are for adapters at a level.", MetricType::Gauge,
         stats.device_capacity, stats.host_capacity);
  levels("descant_adapter_level_adapters", "Adapters at a level.",
         MetricType::Gauge, static_cast<uint64_t>(stats.slots_used),
         static_cast<uint64_t>(stats.host_adapters));
  levels("descant_adapter_level_hits_total",
         "Times an adapter was wanted at a level and was there.",
         MetricType::Counter, stats.device_hits, stats.host_hits);
  levels("descant_adapter_level_misses_total",
         "Times an adapter was wanted at a level and was not there.",
         MetricType::Counter, stats.device_misses, stats.host_misses);
  levels("descant_adapter_level_evictions_total",
         "Adapters that lost their place at a level to another.",
         MetricType::Counter, stats.adapter_evictions, stats.host_evictions);
}

void LifecycleMetrics::CollectStore(Families* families) const {
  const StoreStats stats = sources_.store();
  const auto gauge = [families](const char* name, const char* help,
                                uint64_t value) {
    AddSingle(name, help, MetricType::Gauge, static_cast<double>(value), {},
              families);
  };
  gauge("descant_stored_adapters", "Names registered, of all tenants.",
        static_cast<uint64_t>(stats.adapters));
  gauge("descant_stored_versions", "Versions kept, of all names.",
        static_cast<uint64_t>(stats.versions));
  gauge("descant_stored_bytes", "Bytes of the versions kept.",
        stats.stored_bytes);
  gauge("descant_staged_bytes", "Bytes reserved by uploads under way.",
        stats.staged_bytes);
  gauge("descant_open_uploads", "Uploads under way, interrupted ones too.",
        static_cast<uint64_t>(stats.open_uploads));
  gauge("descant_garbage_bytes", "Bytes that no version names any more.",
        stats.garbage_bytes);
  gauge("descant_quarantined_versions", "Versions whose bytes are damaged.",
        static_cast<uint64_t>(stats.quarantined));
  gauge("descant_store_journal_bytes", "Bytes of the store's journal.",
        stats.journal_bytes);
  gauge("descant_store_read_only",
        "1 where the store serves and takes no change.",
        stats.read_only ? 1 : 0);
}

void LifecycleMetrics::CollectResidents(Families* families) const {
  std::vector<ResidentAdapter> residents = sources_.residents();
  const auto gauge = [&](const char* name, const char* help, double value) {
    AddSingle(name, help, MetricType::Gauge, value, gateway_labels_, families);
  };
  gauge("vllm:num_gpu_loaded_lora_adapters", "Adapters on the device.",
        CountAt(residents, AdapterLevel::kDevice));
  gauge("vllm:num_cpu_loaded_lora_adapters",
        "Adapters in the host's memory and not on the device.",
        CountAt(residents, AdapterLevel::kHost));
  gauge("vllm:max_gpu_lora_adapters", "Adapter slots on the device.",
        sources_.engine().slots_total);
  if (residents.empty()) return;
  // Those on the device first: the page has room for `max_series_`.
  std::stable_sort(residents.begin(), residents.end(),
                   [](const ResidentAdapter& a, const ResidentAdapter& b) {
                     return a.level > b.level;
                   });
  if (residents.size() > max_series_) residents.resize(max_series_);
  families->push_back(MakeFamily(
      "vllm:lora_adapter_loaded",
      "1 while the adapter is on the device (gpu) or in the host's memory "
      "(cpu).",
      MetricType::Gauge));
  // Two versions of a name may be resident: one series a label set.
  std::map<MetricLabels, double> series;
  for (const ResidentAdapter& resident : residents) {
    MetricLabels labels = gateway_labels_;
    labels["adapter_name"] = AdapterLabel(resident.tenant, resident.name);
    labels["level"] = GatewayLevel(resident.level);
    labels["pinned"] = resident.pinned ? "true" : "false";
    labels["rank"] = std::to_string(resident.rank);
    series[std::move(labels)] = 1;
  }
  for (const auto& [labels, value] : series) {
    AddSeries(value, labels, &families->back());
  }
}

void LifecycleMetrics::CollectManifest(Families* families) const {
  const ManifestReport report = sources_.manifest();
  families->push_back(MakeFamily("descant_manifest_adapters",
                                 "Entries of the adapters' manifest.",
                                 MetricType::Gauge));
  AddSeries(report.in_place, {{"state", "in_place"}}, &families->back());
  AddSeries(report.failed, {{"state", "failed"}}, &families->back());
  AddSingle("descant_manifest_stale",
            "1 where the manifest could not be read again.", MetricType::Gauge,
            report.stale ? 1 : 0, {}, families);
}

}  // namespace descant
