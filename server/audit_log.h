// The audit log: who did what to which adapters, keys and servers, and who was
// turned away. One JSON object a line; server/SECURITY.md has the fields. No
// prompts, no tokens, no keys.
#ifndef DESCANT_SERVER_AUDIT_LOG_H_
#define DESCANT_SERVER_AUDIT_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "server/json_lines_log.h"
#include "server/tenants.h"

namespace descant {

struct AuditLogOptions {
  std::string path;
  uint64_t max_file_bytes = 0;  // beyond it the file is rotated; 0: never
  // Where lines cannot be written, what they would tell of is refused.
  bool fail_closed = false;
};

// Empty parts are left out of the line; what is too long is cut.
struct AuditEvent {
  std::string event;  // "delete", ...
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string reason;  // ErrorInfo.reason, or why a caller was turned away
  Identity identity;   // of the caller
  std::string peer;    // its address, as gRPC writes it
  std::string rpc;
  std::string name;    // of the adapter; "tenant/name" where an operator's
  std::string digest;  // of its content
  uint64_t size = 0;   // bytes
  // For instance which keys a new tenants file added.
  std::vector<std::pair<std::string, std::vector<std::string>>> lists;
};

// Thread-safe. Lines are written on a thread of its own; nobody waits for the
// disk but in Commit.
class AuditLog {
 public:
  // INVALID_ARGUMENT, one line: the file can't be opened. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(
      const AuditLogOptions& options, const Clock* clock);

  void Record(const AuditEvent& event);
  // The same of a caller that was turned away, which it may be at any rate: at
  // most kAuditFailuresPerSecond of them (server/limits.h), and a count of
  // those left out.
  void RecordFailure(const AuditEvent& event);

  // Where fail_closed is on: returns once all that was recorded is on the disk,
  // or UNAVAILABLE AUDIT_UNAVAILABLE. May take as long as the disk. OK at once
  // where it is off.
  absl::Status Commit();
  // OK, or the same error where a write has failed and none has succeeded
  // since. At once.
  absl::Status CheckWritable() const;

  // Called about once a second.
  void Tick();
  // After the file was moved away.
  void Reopen() { log_->Reopen(); }

  JsonLinesLog::Counts counts() const { return log_->counts(); }
  bool fail_closed() const { return options_.fail_closed; }

 private:
  AuditLog(const AuditLogOptions& options, std::unique_ptr<JsonLinesLog> log,
           const Clock* clock);
  void RecordLocked(const AuditEvent& event, uint64_t left_out)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefillLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AuditLogOptions options_;
  const Clock* const clock_;
  const std::unique_ptr<JsonLinesLog> log_;
  mutable Mutex mutex_;
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  // A token bucket of failures.
  double tokens_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime refilled_ ABSL_GUARDED_BY(mutex_);
  uint64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
  bool failing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t failures_seen_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t written_then_ ABSL_GUARDED_BY(mutex_) = 0;  // when it failed
};

}  // namespace descant

#endif  // DESCANT_SERVER_AUDIT_LOG_H_
