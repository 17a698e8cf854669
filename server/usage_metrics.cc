#include "server/usage_metrics.h"

#include "server/metric_family.h"

namespace descant {
namespace {

using prometheus::MetricType;
using Families = std::vector<prometheus::MetricFamily>;

void CollectTenants(
    const std::vector<std::pair<std::string, TenantCounts>>& tenants,
    Families* families) {
  const auto counter = [&](const char* name, const char* help,
                           uint64_t TenantCounts::*count) {
    families->push_back(MakeFamily(name, help, MetricType::Counter));
    for (const auto& [tenant, counts] : tenants) {
      AddSeries(static_cast<double>(counts.*count),
                {{"tenant", tenant.empty() ? "none" : tenant}},
                &families->back());
    }
  };
  counter("descant_tenant_requests_total", "Generations that were admitted.",
          &TenantCounts::requests);
  counter("descant_tenant_refused_requests_total",
          "Generations that a limit of the tenant refused.",
          &TenantCounts::refused);
  counter("descant_tenant_prompt_tokens_total", "Prompt tokens.",
          &TenantCounts::prompt_tokens);
  counter("descant_tenant_cached_tokens_total",
          "Of these, those found in the prefix cache.",
          &TenantCounts::cached_tokens);
  counter("descant_tenant_generated_tokens_total", "Generated tokens.",
          &TenantCounts::generated_tokens);
}

}  // namespace

void CollectUsage(const UsageSources& sources, Families* families) {
  if (sources.tenants != nullptr) CollectTenants(sources.tenants(), families);
  if (sources.log == nullptr) return;
  const JsonLinesLog::Counts counts = sources.log();
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    AddSingle(name, help, MetricType::Counter, static_cast<double>(value), {},
              families);
  };
  counter("descant_usage_log_lines_total", "Lines written to the usage log.",
          counts.written);
  counter("descant_usage_log_dropped_lines_total",
          "Lines of the usage log that found no room to wait.", counts.dropped);
  counter("descant_usage_log_failures_total",
          "Attempts to write the usage log that failed.", counts.failures);
}

}  // namespace descant
