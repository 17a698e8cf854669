// The certificate that the server shows, read again while it runs.
#ifndef DESCANT_SERVER_TLS_CERTIFICATE_H_
#define DESCANT_SERVER_TLS_CERTIFICATE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"

namespace descant {

// Paths. PEM files; links are followed.
struct TlsFiles {
  std::string certificate;  // the chain, the server's own first
  std::string key;          // not encrypted; others must not have access
  std::string client_ca;    // "": clients are asked for no certificate
};

// What the files hold. Immutable.
struct TlsMaterial {
  std::string certificate_chain;
  std::string private_key;
  std::string client_ca;
  std::string fingerprint;  // SHA-256 of the server's own certificate, hex
  int64_t not_after = 0;    // Unix seconds; the earliest of the chain
};

// Reads and checks: whole PEM, the key is the certificate's, and at `now` (Unix
// seconds) every certificate of the chain is valid. INVALID_ARGUMENT, one line
// that begins with the path; it repeats nothing of the key.
absl::StatusOr<std::shared_ptr<const TlsMaterial>> LoadTlsMaterial(
    const TlsFiles& files, double now);

struct TlsStats {
  bool stale = false;            // the last attempt to read failed
  uint64_t reload_failures = 0;  // since the start
  int64_t not_after = 0;         // of what is shown; Unix seconds
};

// Thread-safe.
class TlsCertificate {
 public:
  // `material` is what the files hold now. `clock` outlives this.
  TlsCertificate(TlsFiles files, std::shared_ptr<const TlsMaterial> material,
                 const Clock* clock);

  std::shared_ptr<const TlsMaterial> current() const;
  TlsStats Stats() const;

  // Reads the files now and logs what came of it. What is bad changes nothing
  // but the statistics: the certificate before it is shown on.
  absl::Status Reload();

  // Called about once a second: Reload() once the files have changed and then
  // stayed as they are until the next call, so that a certificate and its key
  // can be written one after the other.
  void Watch();

 private:
  // What tells one state of a file from another.
  struct FileState {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size = -1;  // -1: not there
    int64_t changed_ns = 0;
    bool operator==(const FileState& other) const {
      return device == other.device && inode == other.inode &&
             size == other.size && changed_ns == other.changed_ns;
    }
  };
  using FileStates = std::array<FileState, 3>;
  FileStates Look() const;

  const TlsFiles files_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
  FileStates read_ ABSL_GUARDED_BY(mutex_);  // as they were when last read
  FileStates seen_ ABSL_GUARDED_BY(mutex_);  // by the last Watch
  bool stale_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace descant

#endif  // DESCANT_SERVER_TLS_CERTIFICATE_H_
