// HTTP/1.1 for Prometheus and for probes, with TLS where there is a
// certificate: GET or HEAD of
//   /metrics  the page of metrics
//   /livez    200, or 503 while the engine has work and makes no progress
//   /readyz   200, or 503 before the start's end and from a drain on
// Probes are here too because Kubernetes' gRPC probes speak no TLS.
#ifndef DESCANT_SERVER_METRICS_LISTENER_H_
#define DESCANT_SERVER_METRICS_LISTENER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/tls_certificate.h"

namespace descant {

// Called on the listener's thread.
struct MetricsPages {
  std::function<std::string()> metrics;
  std::function<bool()> alive;
  std::function<bool()> ready;
};

// One thread of its own. Connections are bounded in number, time and bytes
// (server/limits.h). Destroying it closes them.
class MetricsListener {
 public:
  // Binds HOST:PORT. Plain HTTP with a null `certificate`, which outlives it
  // otherwise. FAILED_PRECONDITION when the address can't be bound.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(
      const std::string& address, const TlsCertificate* certificate,
      MetricsPages pages);
  ~MetricsListener();

 private:
  class Server;
  explicit MetricsListener(std::unique_ptr<Server> server);

  const std::unique_ptr<Server> server_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_METRICS_LISTENER_H_
