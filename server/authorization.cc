#include "server/authorization.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

struct Rule {
  absl::string_view rpc;
  Roles roles;
};

constexpr Roles kAnyTenant = Roles(Role::kGenerate) | Role::kManageAdapters;

constexpr Rule kRules[] = {
    // GenerationService
    {"Generate", Role::kGenerate},
    {"GenerateStream", Role::kGenerate},
    {"Tokenize", Role::kGenerate},
    {"Detokenize", Role::kGenerate},
    {"GetModel", kAnyTenant},
    // AdapterService
    {"UploadAdapter", Role::kManageAdapters},
    {"QueryUpload", Role::kManageAdapters},
    {"GetAdapter", kAnyTenant},
    {"ListAdapters", kAnyTenant},
    {"DeleteAdapter", Role::kManageAdapters},
    {"RollbackAdapter", Role::kManageAdapters},
    {"DownloadAdapter", Role::kManageAdapters},
    {"ShareAdapter", Role::kManageAdapters},
    {"WatchAdapters", kAnyTenant},
    // AdminService
    {"GetStats", Role::kOperator},
    {"LoadAdapter", Role::kOperator},
    {"UnloadAdapter", Role::kOperator},
    {"PinAdapter", Role::kOperator},
    {"VerifyStore", Role::kOperator},
    {"ListMerges", Role::kOperator},
    {"SetMergeMode", Role::kOperator},
};

const std::shared_ptr<const Tenant>& Nobody() {
  static const auto* const nobody =
      new std::shared_ptr<const Tenant>(std::make_shared<Tenant>());
  return *nobody;
}

// For the audit log alone.
std::string PeerOf(const EdgeContext& edge,
                   const grpc::CallbackServerContext& context) {
  return edge.audit == nullptr ? std::string() : context.peer();
}

absl::Status Unknown(absl::string_view why) {
  return absl::UnauthenticatedError(why);
}

// By what the call itself carries. UNAUTHENTICATED with why.
absl::StatusOr<Identity> IdentifyCredential(
    const EdgeContext& edge, const TenantDirectory& tenants,
    const grpc::CallbackServerContext& context) {
  constexpr absl::string_view kScheme = "Bearer ";
  const auto [first, last] =
      context.client_metadata().equal_range("authorization");
  // Two keys are none: nobody shall have to guess which one counts.
  if (std::next(first) != last) return Unknown("two authorization entries");
  absl::string_view value(first->second.data(), first->second.size());
  if (!absl::StartsWithIgnoreCase(value, kScheme)) {
    return Unknown("the scheme is not Bearer");
  }
  value.remove_prefix(kScheme.size());
  if (value.empty()) return Unknown("an empty key");
  if (value.size() > limits::kMaxBearerBytes) return Unknown("too long a key");
  return tenants.Authenticate(value, edge.clock->UnixSeconds());
}

// By the certificate of the call's connection, as gRPC verified it: the one
// source of it that no client writes.
Identity IdentifyCertificate(const EdgeContext& edge,
                             const TenantDirectory& tenants,
                             const grpc::CallbackServerContext& context) {
  if (!edge.options.client_certificates) return {};
  const std::shared_ptr<const grpc::AuthContext> peer = context.auth_context();
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return {};
  const std::vector<grpc::string_ref> ids =
      peer->FindPropertyValues(GRPC_PEER_SPIFFE_ID_PROPERTY_NAME);
  if (ids.size() != 1) return {};
  return tenants.FindCertificate({ids[0].data(), ids[0].size()});
}

// A tenant there is, or UNAUTHENTICATED with why.
absl::StatusOr<Identity> Identify(const EdgeContext& edge,
                                  const TenantDirectory& tenants,
                                  const grpc::CallbackServerContext& context) {
  Identity certificate = IdentifyCertificate(edge, tenants, context);
  if (context.client_metadata().count("authorization") == 0) {
    if (certificate.tenant != nullptr) return certificate;
    return Unknown("no key, and no certificate of a tenant");
  }
  DESCANT_ASSIGN_OR_RETURN(Identity credential,
                           IdentifyCredential(edge, tenants, context));
  if (certificate.tenant != nullptr &&
      certificate.tenant->id != credential.tenant->id) {
    return Unknown("the key and the certificate are of two tenants");
  }
  return credential;
}

}  // namespace

Roles RolesFor(absl::string_view rpc) {
  const auto* const rule =
      std::find_if(std::begin(kRules), std::end(kRules),
                   [rpc](const Rule& rule) { return rule.rpc == rpc; });
  return rule == std::end(kRules) ? Roles() : rule->roles;
}

absl::StatusOr<std::shared_ptr<const Tenant>> AuthorizeCall(
    const EdgeContext& edge, const grpc::CallbackServerContext& context,
    absl::string_view rpc, Caller* caller) {
  DESCANT_RETURN_IF_ERROR(CheckAuditable(edge, rpc));
  if (caller != nullptr) caller->peer = PeerOf(edge, context);
  if (edge.tenants == nullptr) return Nobody();
  absl::StatusOr<Identity> found =
      Identify(edge, *edge.tenants->current(), context);
  if (!found.ok()) {
    AuditFailure(edge, context, rpc, {}, found.status());
    return ReasonedError(
        absl::StatusCode::kUnauthenticated, reason::kUnauthenticated,
        "needs \"authorization: Bearer KEY\" with a valid key");
  }
  std::shared_ptr<const Tenant> tenant = found->tenant;
  if (!tenant->roles.HasAny(RolesFor(rpc))) {
    const absl::Status denied =
        ReasonedError(absl::StatusCode::kPermissionDenied, reason::kRoleMissing,
                      "the key's tenant has no role that may do this");
    AuditFailure(edge, context, rpc, *found, denied);
    return denied;
  }
  if (caller != nullptr) caller->identity = *std::move(found);
  return tenant;
}

absl::Status AuthorizeOperator(const EdgeContext& edge,
                               const grpc::CallbackServerContext& context,
                               absl::string_view rpc, Caller* caller) {
  if (edge.options.open_admin &&
      context.client_metadata().count("authorization") == 0 &&
      (edge.tenants == nullptr ||
       IdentifyCertificate(edge, *edge.tenants->current(), context).tenant ==
           nullptr)) {
    if (caller != nullptr) caller->peer = PeerOf(edge, context);
    return CheckAuditable(edge, rpc);
  }
  return AuthorizeCall(edge, context, rpc, caller).status();
}

}  // namespace descant
