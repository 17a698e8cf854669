// The whole server in one object: engine, store, services and listeners.
#ifndef DESCANT_SERVER_APP_H_
#define DESCANT_SERVER_APP_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/registry.h"
#include "adapters/store.h"
#include "adapters/store_scrubber.h"
#include "grpcpp/server.h"
#include "runtime/base/clock.h"
#include "runtime/base/fs.h"
#include "runtime/engine.h"
#include "server/acceptor.h"
#include "server/adapter_service.h"
#include "server/admin_service.h"
#include "server/audit_log.h"
#include "server/backend.h"
#include "server/config.h"
#include "server/edge_context.h"
#include "server/generation_service.h"
#include "server/manifest_reconciler.h"
#include "server/metrics_listener.h"
#include "server/tls_certificate.h"

namespace descant {

// Order of start: store, recovery, engine, services, listeners; when Start
// returns, the server is ready. One thread uses it.
class App {
 public:
  // Errors are one line for the operator; ExitCode() says what they mean.
  static absl::StatusOr<std::unique_ptr<App>> Start(const ServerConfig& config,
                                                    Backend backend);
  // REQUIRES: Drain was called.
  ~App();

  // Not ready from now on, new calls are answered UNAVAILABLE; returns when
  // the accepted ones have ended, or were ended at `deadline`.
  void Drain(MonotonicTime deadline);

  // Called about once a second: an engine that has work and makes no progress
  // is reported as not alive, and whoever waits for it is answered UNAVAILABLE,
  // ENGINE_STALLED; what nothing names any more goes, from memory and
  // then from disk; pins follow their names.
  void KeepHouse();

  // Reads the certificate, the tenants file and then the adapters' manifest
  // again, beside the traffic, and opens the logs anew. A file that is bad
  // changes nothing.
  void Reload();

  // False while the engine hangs: then Drain would not return.
  bool alive() const { return alive_; }
  // No step can be computed any more: what is left is to drain. Of KeepHouse's
  // thread.
  bool device_failed() const { return device_failed_; }

  EdgeContext* edge() { return &edge_; }

 private:
  App() = default;
  absl::Status OpenAudit(const ServerConfig& config);
  // An event of the server itself.
  void Audit(AuditEvent event);
  void ReloadTenants();
  absl::Status OpenLogs(const ServerConfig& config);
  absl::Status OpenStore(const ServerConfig& config, const Backend& backend);
  absl::Status StartEngine(const ServerConfig& config, Backend* backend);
  void FillEdge(const ServerConfig& config, const Backend& backend);
  void MakeMetrics(const ServerConfig& config, const Backend& backend);
  void MakeParts();
  void CheckLiveness();
  // Frees what is in memory of adapters that no version refers to any more.
  void UnloadForgotten();
  absl::Status Listen(const ServerConfig& config);
  // Of one more listener.
  const std::shared_ptr<grpc::ServerCredentials>& AddCredentials(
      const ServerConfig& config);
  void SetReady(bool ready);

  SystemClock clock_;
  PosixFs fs_;
  AdapterFeed feed_;
  std::unique_ptr<AuditLog> audit_;  // null: off
  AdapterRegistry registry_;
  std::unique_ptr<AdapterStore> store_;
  std::unique_ptr<StoreScrubber> scrubber_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Metrics> metrics_;
  std::unique_ptr<Egress> egress_;
  EdgeContext edge_;
  std::unique_ptr<FrontPool> front_pool_;
  std::unique_ptr<FrontPool> upload_pool_;
  std::unique_ptr<FrontPool> maintenance_pool_;
  std::unique_ptr<PinnedAdapters> pins_;
  std::unique_ptr<TenantsFile> tenants_;  // null: tenants are off
  TenantAdmission admission_{&clock_};
  std::unique_ptr<MemoryBudget> request_memory_;
  TenantUsage usage_;
  std::unique_ptr<JsonLinesLog> usage_log_;  // null: none is kept
  WaitEstimate wait_estimate_{&clock_};
  std::unique_ptr<ManifestReconciler> manifest_;
  std::unique_ptr<FrontPool> download_pool_;
  std::unique_ptr<GenerationService> generation_;
  std::unique_ptr<AdapterService> adapters_;
  std::unique_ptr<AdminService> admin_;
  Acceptor acceptor_;
  Acceptor admin_acceptor_;
  std::unique_ptr<TlsCertificate> tls_;  // null: no TLS
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> admin_server_;
  std::unique_ptr<MetricsListener> metrics_listener_;
  Duration stall_limit_{};
  std::atomic<bool> alive_{true};
  bool device_failed_ = false;
  std::atomic<bool> ready_{false};
};

// 0, 78 (configuration), 75 (try again later) or 70 (our own fault).
int ExitCode(const absl::Status& status);

}  // namespace descant

#endif  // DESCANT_SERVER_APP_H_
