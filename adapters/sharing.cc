#include "adapters/sharing.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

absl::Status Refuse(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kSharingInvalid, message, "sharing");
}

}  // namespace

bool AdapterSharing::Includes(absl::string_view tenant) const {
  if (tenant.empty()) return false;
  return all_tenants ||
         std::binary_search(tenants.begin(), tenants.end(), tenant);
}

absl::StatusOr<AdapterSharing> MakeSharing(absl::string_view owner,
                                           std::vector<std::string> tenants,
                                           bool all_tenants) {
  if (all_tenants && !tenants.empty()) {
    return Refuse("sharing: with all tenants, or with those named");
  }
  if (tenants.size() > kMaxSharedTenants) {
    return Refuse(absl::StrCat("sharing: at most ", kMaxSharedTenants,
                               " tenants, or all"));
  }
  if (!std::all_of(tenants.begin(), tenants.end(), IsTenantId)) {
    return Refuse(
        "sharing: a tenant's id is 1 to 63 of A-Z a-z 0-9 . _ -, a letter or "
        "digit first, no \"..\", not base or none");
  }
  std::sort(tenants.begin(), tenants.end());
  tenants.erase(std::unique(tenants.begin(), tenants.end()), tenants.end());
  tenants.erase(std::remove(tenants.begin(), tenants.end(), owner),
                tenants.end());
  return AdapterSharing{std::move(tenants), all_tenants};
}

}  // namespace descant
