// What the page of metrics says of certificates and of the audit log.
#ifndef DESCANT_SERVER_SECURITY_METRICS_H_
#define DESCANT_SERVER_SECURITY_METRICS_H_

#include <functional>
#include <vector>

#include "prometheus/metric_family.h"
#include "server/json_lines_log.h"
#include "server/tls_certificate.h"

namespace descant {

// Called by scrapes, on any thread.
struct SecuritySources {
  std::function<TlsStats()> tls;                // null: no TLS
  std::function<JsonLinesLog::Counts()> audit;  // null: no audit log
};

void CollectSecurity(const SecuritySources& sources,
                     std::vector<prometheus::MetricFamily>* families);

}  // namespace descant

#endif  // DESCANT_SERVER_SECURITY_METRICS_H_
