// Who may call: tenants, the hashes of their API keys, the SPIFFE ids of their
// certificates, and who signs their tokens.
#ifndef DESCANT_SERVER_TENANTS_H_
#define DESCANT_SERVER_TENANTS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/identity.h"
#include "runtime/base/mutex.h"
#include "server/jwt.h"
#include "server/tenant.h"

namespace descant {

// How a caller showed who it is.
enum class IdentityKind { kNone, kApiKey, kCertificate, kJwt };

struct Identity {
  std::shared_ptr<const Tenant> tenant;
  IdentityKind kind = IdentityKind::kNone;
  std::string key_id;  // the key's id, the SPIFFE id, or the token's kid
};

// The content of a tenants file: server/TENANTS.md. A tenant has one key, or
// two while one replaces the other. A key's hash is the key's plain SHA-256, so
// keys must be random (see MakeApiKey), never chosen by a person. Immutable,
// thread-safe.
class TenantDirectory {
 public:
  // Strict: unknown and duplicate keys, a tenant or a hash given twice, a value
  // out of its range, and a file that group or others may read or write are
  // errors. INVALID_ARGUMENT, one line that begins with `path`.
  static absl::StatusOr<std::shared_ptr<const TenantDirectory>> Load(
      const std::string& path);
  // The same from the file's content.
  static absl::StatusOr<std::shared_ptr<const TenantDirectory>> Parse(
      const std::string& content, const std::string& path);

  // Whose key `bearer` is, or whom it speaks for if it is a token; `now` in
  // Unix seconds. The time it takes tells nothing about which tenants and keys
  // there are. UNAUTHENTICATED with why, for the operator alone.
  absl::StatusOr<Identity> Authenticate(absl::string_view bearer,
                                        double now) const;
  // Whose certificate it is that has this SPIFFE id, or none (a null tenant).
  // REQUIRES: the certificate was verified.
  Identity FindCertificate(absl::string_view spiffe_id) const;

  bool Has(absl::string_view tenant) const;
  // All, in the file's order.
  const std::vector<std::shared_ptr<const Tenant>>& tenants() const {
    return in_order_;
  }

  // What tells who somebody is: "acme/k1", "acme spiffe://a/b", "jwt kid", each
  // with a digest that changes with it. For telling what a new file changed.
  std::map<std::string, Sha256Digest> Credentials() const;

 private:
  struct Entry {
    Sha256Digest key_hash;
    std::string key_id;
    std::shared_ptr<const Tenant> tenant;
  };
  using Tenants =
      absl::flat_hash_map<std::string, std::shared_ptr<const Tenant>>;

  TenantDirectory() = default;

  std::vector<Entry> entries_;
  std::vector<std::shared_ptr<const Tenant>> in_order_;
  Tenants tenants_;                         // by id
  Tenants spiffe_ids_;                      // by SPIFFE id
  std::unique_ptr<const JwtVerifier> jwt_;  // null: no tokens

  friend class TenantsReader;
};

// A tenants file that may be read again. Thread-safe.
class TenantsFile {
 public:
  // `directory` is what `path` says now.
  TenantsFile(std::string path,
              std::shared_ptr<const TenantDirectory> directory)
      : path_(std::move(path)), current_(std::move(directory)) {}

  std::shared_ptr<const TenantDirectory> current() const {
    MutexLock lock(&mutex_);
    return current_;
  }
  // A file that is bad changes nothing but `stale`.
  absl::Status Reload();
  // The last Reload failed.
  bool stale() const {
    MutexLock lock(&mutex_);
    return stale_;
  }

 private:
  const std::string path_;
  mutable Mutex mutex_;
  std::shared_ptr<const TenantDirectory> current_ ABSL_GUARDED_BY(mutex_);
  bool stale_ ABSL_GUARDED_BY(mutex_) = false;
};

// A new key of 256 random bits, as text that travels in a header.
std::string MakeApiKey();

}  // namespace descant

#endif  // DESCANT_SERVER_TENANTS_H_
