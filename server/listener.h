// A gRPC server with this project's limits. What each of them is for, and what
// it was measured to stand: server/TRANSPORT.md.
#ifndef DESCANT_SERVER_LISTENER_H_
#define DESCANT_SERVER_LISTENER_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "runtime/base/clock.h"
#include "server/acceptor.h"

namespace descant {

// Those limits of a connection that an operator may set (server/config.h); the
// others are in server/limits.h.
struct ConnectionLimits {
  // A connection that was silent for so long is asked whether it lives; one
  // that does not answer in keepalive_timeout is closed, its calls cancelled.
  Duration keepalive_time = std::chrono::seconds(60);
  Duration keepalive_timeout = std::chrono::seconds(20);
  // After max_age (give or take a tenth) clients are told to connect anew;
  // their calls have max_age_grace to end.
  Duration max_age = std::chrono::hours(1);
  Duration max_age_grace = std::chrono::minutes(10);
  // At a time; one more is closed at once.
  size_t max_connections = 4096;
};

// Serves `services` on HOST:PORT with grpc.health.v1 and, where asked
// for, reflection. FAILED_PRECONDITION when the
// address can't be bound. `acceptor`, a new one, takes its connections; it is
// stopped before the server is shut down.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartListener(
    const std::string& flag, const std::string& address,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,
    const std::vector<grpc::Service*>& services, bool reflection,
    const ConnectionLimits& connections, Acceptor* acceptor);

// For all listeners started after it.
void EnableHealthService();

}  // namespace descant

#endif  // DESCANT_SERVER_LISTENER_H_
