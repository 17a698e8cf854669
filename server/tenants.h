// Who may call: tenants and the hashes of their API keys.
#ifndef DESCANT_SERVER_TENANTS_H_
#define DESCANT_SERVER_TENANTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/identity.h"
#include "runtime/base/mutex.h"
#include "server/tenant.h"

namespace descant {

// The content of a tenants file: server/TENANTS.md. A tenant has one key, or
// two while one replaces the other. The hash is the key's plain SHA-256, so
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

  // The tenant whose key `bearer_token` is, or null. The time it takes tells
  // nothing about which tenants and keys there are.
  std::shared_ptr<const Tenant> Authenticate(
      absl::string_view bearer_token) const;

  bool Has(absl::string_view tenant) const;

 private:
  struct Entry {
    Sha256Digest key_hash;
    std::shared_ptr<const Tenant> tenant;
  };

  explicit TenantDirectory(std::vector<Entry> entries)
      : entries_(std::move(entries)) {}

  const std::vector<Entry> entries_;

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
