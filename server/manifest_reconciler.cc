#include "server/manifest_reconciler.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "adapters/name.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/limits.h"
#include "server/operator_file.h"
#include "server/pinned_adapters.h"

namespace descant {
namespace {

constexpr size_t kReadBytes = 1 << 20;
// A pin that takes longer goes on without being waited for.
constexpr absl::Duration kPinTimeout = absl::Seconds(60);

}  // namespace

absl::Status ManifestReconciler::Reconcile() {
  MutexLock lock(&reconciling_);
  std::shared_ptr<const TenantDirectory> tenants;
  if (edge_->tenants != nullptr) tenants = edge_->tenants->current();
  const absl::StatusOr<AdaptersManifest> manifest =
      AdaptersManifest::Load(path_, edge_->facts.name, tenants.get());
  if (!manifest.ok()) {
    MutexLock report_lock(&mutex_);
    report_.stale = true;
    return manifest.status();
  }
  EndFormerPins(*manifest);
  ManifestReport report;
  for (const ManifestEntry& entry : manifest->entries) {
    absl::StatusOr<bool> changed = Apply(entry);
    absl::Status status = changed.status();
    if (status.ok() && entry.pinned) {
      pinned_.insert({entry.tenant, entry.name});
      status = Pin(entry);
    }
    if (status.ok()) {
      ++report.in_place;
      report.changed += *changed ? 1 : 0;
      continue;
    }
    ++report.failed;
    LogError("manifest: adapter ", AdapterLabel(entry.tenant, entry.name), ": ",
             LogSafe(status.message()));
  }
  LogInfo("manifest: ", report.in_place, " adapters as declared, ",
          report.changed, " of them changed now, ", report.failed, " failed");
  MutexLock report_lock(&mutex_);
  report_ = report;
  return absl::OkStatus();
}

ManifestReport ManifestReconciler::report() const {
  MutexLock lock(&mutex_);
  return report_;
}

// Pins of a former manifest that this one does not ask for.
void ManifestReconciler::EndFormerPins(const AdaptersManifest& manifest) {
  std::set<Name> wanted;
  for (const ManifestEntry& entry : manifest.entries) {
    if (entry.pinned) wanted.insert({entry.tenant, entry.name});
  }
  for (auto it = pinned_.begin(); it != pinned_.end();) {
    if (wanted.contains(*it)) {
      ++it;
      continue;
    }
    // The name may be gone, and its pin with it.
    edge_->pins
        ->Unpin(it->first, AdapterId{it->second, ""},
                [](const AdapterActionResult&) {})
        .IgnoreError();
    it = pinned_.erase(it);
  }
}

absl::StatusOr<bool> ManifestReconciler::Apply(const ManifestEntry& entry) {
  if (entry.absent) return Remove(entry);
  if (!entry.digest.empty()) return MakeCurrent(entry);
  return Store(entry);
}

absl::StatusOr<bool> ManifestReconciler::Remove(const ManifestEntry& entry) {
  const absl::Status status = edge_->store->Delete(entry.tenant, entry.name);
  if (absl::IsNotFound(status)) return false;
  DESCANT_RETURN_IF_ERROR(status);
  edge_->metrics->ForgetAdapter(AdapterLabel(entry.tenant, entry.name));
  return true;
}

absl::StatusOr<bool> ManifestReconciler::MakeCurrent(
    const ManifestEntry& entry) {
  DESCANT_ASSIGN_OR_RETURN(const RegistryEntry current,
                           edge_->registry->Get(entry.tenant, entry.name));
  if (current.info.digest == entry.digest) return false;
  DESCANT_RETURN_IF_ERROR(edge_->store
                              ->Rollback(entry.tenant,
                                         AdapterId{entry.name, entry.digest},
                                         std::nullopt)
                              .status());
  return true;
}

absl::StatusOr<bool> ManifestReconciler::Store(const ManifestEntry& entry) {
  UploadSpec spec;
  spec.tenant = entry.tenant;
  spec.name = entry.name;
  spec.labels = entry.labels;
  spec.condition.replace = true;
  std::string path = entry.file;
  if (path.empty()) {
    path = entry.directory + "/adapter_model.safetensors";
    DESCANT_ASSIGN_OR_RETURN(
        spec.config_json,
        ReadOperatorFile(entry.directory + "/adapter_config.json",
                         limits::kMaxConfigBytes));
  } else {
    spec.format = AdapterFormat::kGguf;
  }
  DESCANT_ASSIGN_OR_RETURN(const auto file, OpenOperatorFile(path));
  spec.declared_size = file->size();
  // Most are there from the start before: that costs a read and no write.
  spec.validate_only = true;
  DESCANT_ASSIGN_OR_RETURN(const PublishResult found, Upload(spec, *file));
  if (found.outcome == PublishOutcome::kUnchanged) return false;
  spec.validate_only = false;
  DESCANT_ASSIGN_OR_RETURN(const PublishResult stored, Upload(spec, *file));
  LogInfo("manifest: adapter ", AdapterLabel(entry.tenant, entry.name),
          " stored, ", stored.info.digest);
  return true;
}

absl::StatusOr<PublishResult> ManifestReconciler::Upload(
    const UploadSpec& spec, const ReadableFile& file) {
  DESCANT_ASSIGN_OR_RETURN(const auto upload, edge_->store->BeginUpload(spec));
  std::string bytes;
  for (uint64_t at = 0; at < file.size(); at += bytes.size()) {
    bytes.resize(std::min<uint64_t>(kReadBytes, file.size() - at));
    DESCANT_ASSIGN_OR_RETURN(const size_t got,
                             file.Read(at, absl::MakeSpan(bytes)));
    if (got != bytes.size()) {
      return absl::UnavailableError("the file became shorter meanwhile");
    }
    DESCANT_RETURN_IF_ERROR(upload->Append(absl::MakeConstSpan(bytes)));
  }
  return upload->Commit();
}

absl::Status ManifestReconciler::Pin(const ManifestEntry& entry) {
  struct Wait {
    absl::Notification done;
    absl::Status status;
  };
  const auto wait = std::make_shared<Wait>();
  DESCANT_RETURN_IF_ERROR(
      edge_->pins->Pin(entry.tenant, AdapterId{entry.name, ""},
                       [wait](const AdapterActionResult& result) {
                         wait->status = result.status;
                         wait->done.Notify();
                       }));
  if (!wait->done.WaitForNotificationWithTimeout(kPinTimeout)) {
    return absl::DeadlineExceededError("it takes long to load");
  }
  return wait->status;
}

}  // namespace descant
