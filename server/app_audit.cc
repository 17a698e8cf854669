// What the server tells the audit log of itself.
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/app.h"

namespace descant {

absl::Status App::OpenAudit(const ServerConfig& config) {
  if (config.audit_log.empty()) return absl::OkStatus();
  AuditLogOptions options;
  options.path = config.audit_log;
  options.max_file_bytes = config.audit_log_size;
  options.fail_closed = config.audit_fail_closed;
  auto log = AuditLog::Open(options, &clock_);
  if (!log.ok()) {
    return absl::Status(log.status().code(),
                        absl::StrCat("--audit-log: ", log.status().message()));
  }
  audit_ = *std::move(log);
  return absl::OkStatus();
}

void App::Audit(AuditEvent event) {
  if (audit_ != nullptr) audit_->Record(std::move(event));
}

void App::ReloadTenants() {
  const std::shared_ptr<const TenantDirectory> before = tenants_->current();
  const absl::Status status = tenants_->Reload();
  AuditEvent event;
  event.event = "tenants_reload";
  event.code = status.code();
  if (!status.ok()) {
    LogError("tenants: not read again: ", LogSafe(status.message()));
    return Audit(std::move(event));
  }
  LogInfo("tenants: read again");
  if (audit_ == nullptr) return;
  const std::map<std::string, Sha256Digest> was = before->Credentials();
  const std::map<std::string, Sha256Digest> is =
      tenants_->current()->Credentials();
  std::vector<std::string> added;
  std::vector<std::string> changed;
  std::vector<std::string> removed;
  for (const auto& [name, digest] : is) {
    const auto old = was.find(name);
    if (old == was.end()) {
      added.push_back(name);
    } else if (old->second != digest) {
      changed.push_back(name);
    }
  }
  for (const auto& [name, digest] : was) {
    if (is.count(name) == 0) removed.push_back(name);
  }
  event.lists = {{"added", std::move(added)},
                 {"changed", std::move(changed)},
                 {"removed", std::move(removed)}};
  Audit(std::move(event));
}

}  // namespace descant
