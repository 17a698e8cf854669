// Who makes a call, and whether they may.
#ifndef DESCANT_SERVER_AUTHORIZATION_H_
#define DESCANT_SERVER_AUTHORIZATION_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "server/audit_trail.h"
#include "server/edge_context.h"
#include "server/tenant.h"

namespace descant {

// Any one of these roles may call the RPC of that name ("Generate"). Empty for
// a name that is not in the table: then nobody may.
Roles RolesFor(absl::string_view rpc);

// Who makes this call: the tenant whose API key or token it carries, or whose
// certificate its connection showed; one without id and limits where tenants
// are off. A call that carries both must be the same tenant's by both; a key or
// token that is not valid is never passed over for a certificate. Every RPC of
// a tenant's service begins with it, before anything else is looked at.
// UNAUTHENTICATED says the same whatever was wrong; PERMISSION_DENIED
// ROLE_MISSING; UNAVAILABLE where the call could not be audited as it must.
// `*caller`, where given, is who it is, on success.
absl::StatusOr<std::shared_ptr<const Tenant>> AuthorizeCall(
    const EdgeContext& edge, const grpc::CallbackServerContext& context,
    absl::string_view rpc, Caller* caller = nullptr);

// The same for AdminService. By nobody in particular only where the listener is
// for this machine alone, or the operator said so (EdgeOptions::open_admin).
absl::Status AuthorizeOperator(const EdgeContext& edge,
                               const grpc::CallbackServerContext& context,
                               absl::string_view rpc, Caller* caller = nullptr);

}  // namespace descant

#endif  // DESCANT_SERVER_AUTHORIZATION_H_
