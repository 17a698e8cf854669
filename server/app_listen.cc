// The listeners of a server.
#include <utility>

#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/security/server_credentials.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/acceptor.h"
#include "server/app.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/tls_credentials.h"

namespace descant {
namespace {

constexpr const char* kReadinessNames[] = {"", "readiness",
                                           "descant.v1.GenerationService",
                                           "descant.v1.AdapterService"};

ConnectionLimits LimitsOf(const ServerConfig& config) {
  ConnectionLimits connections;
  connections.keepalive_time = config.keepalive_time;
  connections.keepalive_timeout = config.keepalive_timeout;
  connections.max_age = config.max_connection_age;
  connections.max_age_grace = config.request_timeout;
  connections.max_connections = ConnectionsThatFit(
      static_cast<size_t>(config.max_connections), limits::kReservedFiles);
  if (connections.max_connections <
      static_cast<size_t>(config.max_connections)) {
    LogWarning("--max-connections: the limit on open files leaves room for ",
               connections.max_connections);
  }
  return connections;
}

}  // namespace

const std::shared_ptr<grpc::ServerCredentials>& App::AddCredentials(
    const ServerConfig& config) {
  ClientCertificates clients = ClientCertificates::kNotAsked;
  if (config.tls_require_client_cert) {
    clients = ClientCertificates::kRequired;
  } else if (!config.tls_client_ca.empty()) {
    clients = ClientCertificates::kOptional;
  }
  return credentials_.emplace_back(
      tls_ == nullptr ? grpc::InsecureServerCredentials()
                      : MakeTlsCredentials(tls_.get(), clients));
}

absl::Status App::Listen(const ServerConfig& config) {
  EnableHealthService();
  const auto reflects = [&config](const std::string& address) {
    return config.reflection || IsLoopbackAddress(address);
  };
  ConnectionLimits connections = LimitsOf(config);
  generation_ = std::make_unique<GenerationService>(&edge_);
  adapters_ = std::make_unique<AdapterService>(&edge_);
  DESCANT_ASSIGN_OR_RETURN(
      server_,
      StartListener("--listen", config.listen, AddCredentials(config),
                    {generation_.get(), adapters_.get()},
                    // Without a key only health answers.
                    config.tenants == nullptr && reflects(config.listen),
                    connections, &acceptor_));
  if (config.admin_listen != "none") {
    admin_ = std::make_unique<AdminService>(&edge_);
    connections.max_connections = limits::kMaxAdminConnections;
    DESCANT_ASSIGN_OR_RETURN(
        admin_server_, StartListener("--admin-listen", config.admin_listen,
                                     AddCredentials(config), {admin_.get()},
                                     reflects(config.admin_listen), connections,
                                     &admin_acceptor_));
  }
  if (config.metrics_listen != "none") {
    MetricsPages pages;
    pages.metrics = [this] {
      metrics_->RecordScrape();
      return RenderMetrics(*metrics_);
    };
    pages.alive = [this] { return alive_.load(); };
    pages.ready = [this] { return ready_.load(); };
    DESCANT_ASSIGN_OR_RETURN(
        metrics_listener_,
        MetricsListener::Start(config.metrics_listen, tls_.get(),
                               std::move(pages)));
  }
  return absl::OkStatus();
}

void App::SetReady(bool ready) {
  ready_ = ready;
  grpc::HealthCheckServiceInterface* health =
      server_ != nullptr ? server_->GetHealthCheckService() : nullptr;
  if (health == nullptr) return;
  for (const char* name : kReadinessNames) {
    health->SetServingStatus(name, ready);
  }
  health->SetServingStatus("liveness", alive_);
  if (admin_server_ == nullptr) return;
  health = admin_server_->GetHealthCheckService();
  health->SetServingStatus("", ready);
  health->SetServingStatus("descant.v1.AdminService", ready);
}

}  // namespace descant
