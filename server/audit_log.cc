#include "server/audit_log.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

using Json = nlohmann::ordered_json;

const char* NameOf(IdentityKind kind) {
  switch (kind) {
    case IdentityKind::kApiKey:
      return "api_key";
    case IdentityKind::kCertificate:
      return "certificate";
    case IdentityKind::kJwt:
      return "jwt";
    case IdentityKind::kNone:
      break;
  }
  return "";
}

void Put(Json* line, const char* field, const std::string& text) {
  if (!text.empty()) (*line)[field] = text.substr(0, limits::kMaxAuditText);
}

Json LineOf(const AuditEvent& event) {
  Json line;
  Put(&line, "event", event.event);
  Put(&line, "code", absl::StatusCodeToString(event.code));
  Put(&line, "reason", event.reason);
  if (event.identity.tenant != nullptr) {
    Put(&line, "tenant", event.identity.tenant->id);
  }
  Put(&line, "identity", NameOf(event.identity.kind));
  Put(&line, "key_id", event.identity.key_id);
  Put(&line, "peer", event.peer);
  Put(&line, "rpc", event.rpc);
  Put(&line, "name", event.name);
  Put(&line, "digest", event.digest);
  if (event.size > 0) line["size"] = event.size;
  for (const auto& [field, list] : event.lists) {
    Json items = Json::array();
    for (const std::string& item : list) {
      if (items.size() == limits::kMaxAuditItems) break;
      items.push_back(item.substr(0, limits::kMaxAuditText));
    }
    if (!items.empty()) line[field] = std::move(items);
  }
  return line;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(
    const AuditLogOptions& options, const Clock* clock) {
  JsonLinesLogOptions file;
  file.path = options.path;
  file.max_file_bytes = options.max_file_bytes;
  DESCANT_ASSIGN_OR_RETURN(auto log, JsonLinesLog::Open(std::move(file)));
  return std::unique_ptr<AuditLog>(
      new AuditLog(options, std::move(log), clock));
}

AuditLog::AuditLog(const AuditLogOptions& options,
                   std::unique_ptr<JsonLinesLog> log, const Clock* clock)
    : options_(options),
      clock_(clock),
      log_(std::move(log)),
      tokens_(limits::kAuditFailuresBurst),
      refilled_(clock->Now()) {}

void AuditLog::Record(const AuditEvent& event) {
  MutexLock lock(&mutex_);
  RecordLocked(event, 0);
}

void AuditLog::RecordLocked(const AuditEvent& event, uint64_t left_out) {
  Json line;
  line["time"] = FormatLogTime(clock_->UnixSeconds());
  line["seq"] = ++sequence_;
  line.update(LineOf(event));
  if (left_out > 0) line["left_out"] = left_out;
  if (!log_->Append(line)) FailLocked();
}

void AuditLog::RefillLocked() {
  const MonotonicTime now = clock_->Now();
  tokens_ = std::min<double>(
      limits::kAuditFailuresBurst,
      tokens_ + ToSeconds(now - refilled_) * limits::kAuditFailuresPerSecond);
  refilled_ = now;
}

void AuditLog::RecordFailure(const AuditEvent& event) {
  MutexLock lock(&mutex_);
  RefillLocked();
  if (tokens_ < 1) {
    ++left_out_;
    return;
  }
  tokens_ -= 1;
  RecordLocked(event, std::exchange(left_out_, 0));
}

void AuditLog::FailLocked() {
  failing_ = true;
  written_then_ = log_->counts().written;
}

absl::Status AuditLog::Commit() {
  if (!options_.fail_closed) return absl::OkStatus();
  if (log_->Flush().ok()) return absl::OkStatus();
  MutexLock lock(&mutex_);
  // What failed waits to be written, and tells by that when all is well.
  FailLocked();
  return ReasonedError(absl::StatusCode::kUnavailable,
                       reason::kAuditUnavailable,
                       "the audit log can't be written");
}

absl::Status AuditLog::CheckWritable() const {
  if (!options_.fail_closed) return absl::OkStatus();
  MutexLock lock(&mutex_);
  if (!failing_) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kUnavailable,
                       reason::kAuditUnavailable,
                       "the audit log can't be written");
}

void AuditLog::Tick() {
  MutexLock lock(&mutex_);
  const JsonLinesLog::Counts counts = log_->counts();
  if (failing_ && counts.written > written_then_) failing_ = false;
  if (counts.failures > std::exchange(failures_seen_, counts.failures)) {
    FailLocked();
    RecordLocked(
        {.event = "audit_write_failed", .code = absl::StatusCode::kUnavailable},
        0);
  }
  RefillLocked();
  if (left_out_ > 0 && tokens_ >= 1) {
    tokens_ -= 1;
    RecordLocked(
        {.event = "auth_failure", .code = absl::StatusCode::kUnauthenticated},
        std::exchange(left_out_, 0));
  }
}

}  // namespace descant
