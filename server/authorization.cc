#include "server/authorization.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "runtime/base/reason.h"
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
};

const std::shared_ptr<const Tenant>& Nobody() {
  static const auto* const nobody =
      new std::shared_ptr<const Tenant>(std::make_shared<Tenant>());
  return *nobody;
}

// Null: no key, or none that is valid.
std::shared_ptr<const Tenant> Authenticate(
    const TenantDirectory& tenants,
    const grpc::CallbackServerContext& context) {
  constexpr absl::string_view kScheme = "Bearer ";
  const auto [first, last] =
      context.client_metadata().equal_range("authorization");
  // Two keys are none: nobody shall have to guess which one counts.
  if (first == last || std::next(first) != last) return nullptr;
  absl::string_view value(first->second.data(), first->second.size());
  if (!absl::StartsWithIgnoreCase(value, kScheme)) return nullptr;
  value.remove_prefix(kScheme.size());
  if (value.empty() || value.size() > limits::kMaxApiKeyBytes) return nullptr;
  return tenants.Authenticate(value);
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
    absl::string_view rpc) {
  if (edge.tenants == nullptr) return Nobody();
  std::shared_ptr<const Tenant> tenant =
      Authenticate(*edge.tenants->current(), context);
  if (tenant == nullptr) {
    return ReasonedError(
        absl::StatusCode::kUnauthenticated, reason::kUnauthenticated,
        "needs \"authorization: Bearer KEY\" with a valid key");
  }
  if (!tenant->roles.HasAny(RolesFor(rpc))) {
    return ReasonedError(absl::StatusCode::kPermissionDenied,
                         reason::kRoleMissing,
                         "the key's tenant has no role that may do this");
  }
  return tenant;
}

absl::Status AuthorizeOperator(const EdgeContext& edge,
                               const grpc::CallbackServerContext& context,
                               absl::string_view rpc) {
  if (edge.options.open_admin &&
      context.client_metadata().count("authorization") == 0) {
    return absl::OkStatus();
  }
  return AuthorizeCall(edge, context, rpc).status();
}

}  // namespace descant
