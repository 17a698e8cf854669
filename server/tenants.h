// Who may call: tenants and the hashes of their API keys.
#ifndef DESCANT_SERVER_TENANTS_H_
#define DESCANT_SERVER_TENANTS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/identity.h"

namespace descant {

// The content of a tenants file:
//
//   tenants:
//     - id: acme
//       keys:
//         - {id: k1, sha256: <64 lower-case hex digits>}
//
// A tenant has one key, or two while one replaces the other. Ids follow the
// grammar of adapter names. The hash is the key's plain SHA-256, so keys must
// be random (32 bytes, say), never chosen by a person. Immutable, thread-safe.
class TenantDirectory {
 public:
  // Strict: unknown and duplicate keys, a tenant or a hash given twice, and a
  // file that group or others may read or write are errors. INVALID_ARGUMENT,
  // one line that begins with `path`.
  static absl::StatusOr<std::shared_ptr<const TenantDirectory>> Load(
      const std::string& path);
  // The same from the file's content.
  static absl::StatusOr<std::shared_ptr<const TenantDirectory>> Parse(
      const std::string& content, const std::string& path);

  // The tenant whose key `bearer_token` is. The time it takes tells nothing
  // about which tenants and keys there are.
  std::optional<std::string> Authenticate(absl::string_view bearer_token) const;

  bool Has(absl::string_view tenant) const;

 private:
  struct Entry {
    Sha256Digest key_hash;
    std::string tenant;
  };

  explicit TenantDirectory(std::vector<Entry> entries)
      : entries_(std::move(entries)) {}

  const std::vector<Entry> entries_;

  friend class TenantsReader;
};

}  // namespace descant

#endif  // DESCANT_SERVER_TENANTS_H_
