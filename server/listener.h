// A gRPC server with this project's limits.
#ifndef DESCANT_SERVER_LISTENER_H_
#define DESCANT_SERVER_LISTENER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/server.h"

namespace descant {

// Serves `services` on HOST:PORT without transport security, with
// grpc.health.v1 and, where asked for, reflection. FAILED_PRECONDITION when the
// address can't be bound.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartListener(
    const std::string& flag, const std::string& address,
    const std::vector<grpc::Service*>& services, bool reflection);

// For all listeners started after it.
void EnableHealthService();

}  // namespace descant

#endif  // DESCANT_SERVER_LISTENER_H_
