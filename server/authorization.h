// Who makes a call, and whether they may.
#ifndef DESCANT_SERVER_AUTHORIZATION_H_
#define DESCANT_SERVER_AUTHORIZATION_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "server/edge_context.h"
#include "server/tenant.h"

namespace descant {

// Any one of these roles may call the RPC of that name ("Generate"). Empty for
// a name that is not in the table: then nobody may.
Roles RolesFor(absl::string_view rpc);

// Who makes this call: the tenant whose key it carries, or one without id and
// limits where tenants are off. Every RPC of a tenant's service begins with it,
// before anything else is looked at. UNAUTHENTICATED says the same whatever was
// wrong with the key; PERMISSION_DENIED ROLE_MISSING.
absl::StatusOr<std::shared_ptr<const Tenant>> AuthorizeCall(
    const EdgeContext& edge, const grpc::CallbackServerContext& context,
    absl::string_view rpc);

// The same for AdminService. Without a key only where the listener is for this
// machine alone, or the operator said so (EdgeOptions::open_admin).
absl::Status AuthorizeOperator(const EdgeContext& edge,
                               const grpc::CallbackServerContext& context,
                               absl::string_view rpc);

}  // namespace descant

#endif  // DESCANT_SERVER_AUTHORIZATION_H_
