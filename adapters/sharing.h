// Whom an adapter's owner lets use it.
#ifndef DESCANT_ADAPTERS_SHARING_H_
#define DESCANT_ADAPTERS_SHARING_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

inline constexpr size_t kMaxSharedTenants = 64;

// Of a name, with all its versions. Nobody by default.
struct AdapterSharing {
  std::vector<std::string> tenants;  // ids in order, each once
  bool all_tenants = false;          // then `tenants` is empty

  bool nobody() const { return tenants.empty() && !all_tenants; }
  // Whether the tenant may use it. "", where tenants are off, never may.
  bool Includes(absl::string_view tenant) const;

  friend bool operator==(const AdapterSharing& a, const AdapterSharing& b) {
    return a.all_tenants == b.all_tenants && a.tenants == b.tenants;
  }
};

// What `owner` asks for, in that form: duplicates and the owner's own id, which
// means nothing here, are left out. Ids need the grammar of tenants only:
// whether there is such a tenant is nothing that an owner could find out.
// INVALID_ARGUMENT SHARING_INVALID, field "sharing": more than
// kMaxSharedTenants, an id that can be no tenant's, or `all_tenants` beside
// ids.
absl::StatusOr<AdapterSharing> MakeSharing(absl::string_view owner,
                                           std::vector<std::string> tenants,
                                           bool all_tenants);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_SHARING_H_
