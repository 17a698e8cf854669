// What the page of metrics says of tenants and of the usage log.
#ifndef DESCANT_SERVER_USAGE_METRICS_H_
#define DESCANT_SERVER_USAGE_METRICS_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"
#include "server/json_lines_log.h"
#include "server/tenant_usage.h"

namespace descant {

// Called by scrapes, on any thread.
struct UsageSources {
  // Those of the tenants file, in its order: as many series as the operator has
  // named tenants. Where tenants are off, the one without an id ("none").
  std::function<std::vector<std::pair<std::string, TenantCounts>>()> tenants;
  // Null without --usage-log.
  std::function<JsonLinesLog::Counts()> log;
};

void CollectUsage(const UsageSources& sources,
                  std::vector<prometheus::MetricFamily>* families);

}  // namespace descant

#endif  // DESCANT_SERVER_USAGE_METRICS_H_
