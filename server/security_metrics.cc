#include "server/security_metrics.h"

#include "server/metric_family.h"

namespace descant {

using prometheus::MetricType;

void CollectSecurity(const SecuritySources& sources,
                     std::vector<prometheus::MetricFamily>* families) {
  const TlsStats tls = sources.tls ? sources.tls() : TlsStats();
  AddSingle("descant_tls_stale", "1 where the certificate could not be read.",
            MetricType::Gauge, tls.stale ? 1 : 0, {}, families);
  AddSingle("descant_tls_reload_failures_total",
            "Certificates that were not taken.", MetricType::Counter,
            static_cast<double>(tls.reload_failures), {}, families);
  AddSingle("descant_tls_not_after_seconds",
            "When the certificate expires, in Unix seconds.", MetricType::Gauge,
            static_cast<double>(tls.not_after), {}, families);
  const JsonLinesLog::Counts audit =
      sources.audit ? sources.audit() : JsonLinesLog::Counts();
  const auto counter = [families](const char* name, const char* help,
                                  uint64_t value) {
    AddSingle(name, help, MetricType::Counter, static_cast<double>(value), {},
              families);
  };
  counter("descant_audit_lines_total", "Lines of the audit log.",
          audit.written);
  counter("descant_audit_write_failures_total",
          "Attempts to write the audit log that failed.", audit.failures);
  counter("descant_audit_dropped_lines_total",
          "Lines that found no room while it could not be written.",
          audit.dropped);
}

}  // namespace descant
