// How an upload or a rollback becomes the current version of its name.
#include <algorithm>
#include <utility>

#include "adapters/error_reason.h"
#include "adapters/store.h"
#include "adapters/store_error.h"
#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

AdapterInfo MakeInfo(const UploadSpec& spec, uint64_t file_bytes,
                     const ValidatedAdapter& validated, const BaseShape& base,
                     double now) {
  AdapterInfo info;
  info.tenant = spec.tenant;
  info.name = spec.name;
  info.digest = validated.digest;
  info.file_bytes = file_bytes;
  DescribeModules(validated, &info);
  info.base_fingerprint = base.fingerprint;
  info.base_model_name = validated.config.base_model_name;
  info.created_unix = now;
  info.labels = spec.labels;
  return info;
}

}  // namespace

absl::StatusOr<PublishResult> AdapterStore::Publish(
    AdapterUpload* upload, const ValidatedAdapter& validated) {
  const UploadSpec& spec = upload->spec_;
  AdapterInfo info = MakeInfo(spec, upload->pair_bytes_, validated, *base_,
                              clock_->UnixSeconds());
  // Checked again under the lock; here it saves the work of a lost cause.
  DESCANT_RETURN_IF_ERROR(
      registry_->CheckPublish(info, spec.condition).status());
  if (!spec.validate_only) {
    if (const absl::Status synced = SyncStaging(upload); !synced.ok()) {
      MutexLock lock(&mutex_);
      journal_->Fail();  // a failed sync is final
      return StoreReadOnly();
    }
  }
  MutexLock lock(&mutex_);
  if (journal_->failed()) return StoreReadOnly();
  DESCANT_ASSIGN_OR_RETURN(const PublishOutcome outcome,
                           registry_->CheckPublish(info, spec.condition));
  if (outcome == PublishOutcome::kUnchanged) {
    DESCANT_ASSIGN_OR_RETURN(const RegistryEntry current,
                             registry_->Get(spec.tenant, spec.name));
    return PublishResult{current.info, outcome};
  }
  if (spec.validate_only) return PublishResult{info, outcome};
  DESCANT_RETURN_IF_ERROR(ReserveNameLocked(upload, outcome));
  DESCANT_RETURN_IF_ERROR(InstallBlobLocked(upload, &info));
  DESCANT_RETURN_IF_ERROR(RecordLocked(&info));
  RotateJournalLocked();
  return PublishResult{info, outcome};
}

absl::Status AdapterStore::SyncStaging(AdapterUpload* upload) {
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_blob_sync"));
  return upload->file_->Sync();
}

absl::Status AdapterStore::ReserveNameLocked(AdapterUpload* upload,
                                             PublishOutcome outcome) {
  // Where the name was deleted since the upload began.
  if (outcome != PublishOutcome::kCreated || upload->reserved_.adapters > 0) {
    return absl::OkStatus();
  }
  const StoreUsage name{.adapters = 1};
  DESCANT_RETURN_IF_ERROR(
      ledger_.Check(upload->spec_.tenant, name, upload->spec_.quota));
  ledger_.Add(upload->spec_.tenant, name);
  upload->reserved_ += name;
  return absl::OkStatus();
}

// A sound blob of that digest stays: versions rely on it, and the same digest
// may be of other bytes (ignored keys of the config, the header's order).
absl::Status AdapterStore::InstallBlobLocked(AdapterUpload* upload,
                                             AdapterInfo* info) {
  const BlobReferences::Reference* former =
      blobs_.Find(info->tenant, info->digest);
  if (former != nullptr && !former->tensors->damaged()) {
    info->file_bytes = former->bytes;
    return absl::OkStatus();
  }
  const absl::Status moved = MoveIntoPlaceLocked(upload, info->digest);
  if (!moved.ok()) {
    if (!absl::IsResourceExhausted(moved)) {
      // Which of the steps are on disk is not known any more.
      journal_->Fail();
    } else if (former == nullptr && upload->file_ == nullptr) {
      fs_->Remove(PathOf(*info)).IgnoreError();
    }
    return StoreWriteError(moved);
  }
  if (former == nullptr) return absl::OkStatus();
  if (former->versions > 0) {
    ledger_.Subtract(info->tenant, {.stored_bytes = former->bytes});
    ledger_.Add(info->tenant, {.stored_bytes = info->file_bytes});
  }
  const std::shared_ptr<StoredTensors> source =
      blobs_.Renew(info->tenant, info->digest, info->file_bytes);
  registry_->Restore(info->tenant, info->digest, source, info->file_bytes,
                     base_->fingerprint);
  return absl::OkStatus();
}

absl::Status AdapterStore::MoveIntoPlaceLocked(AdapterUpload* upload,
                                               const std::string& digest) {
  const std::string& tenant = upload->spec_.tenant;
  const std::string directory = TenantBlobDirectory(context_->blobs, tenant);
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(directory));
  DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(context_->blobs));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rename"));
  DESCANT_RETURN_IF_ERROR(fs_->Rename(
      upload->staging_path_, BlobPath(context_->blobs, tenant, digest)));
  upload->file_.reset();
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_directory_sync"));
  return fs_->SyncDirectory(directory);
}

absl::Status AdapterStore::RecordLocked(AdapterInfo* info) {
  const auto former = registry_->Versions(info->tenant, info->name);
  const size_t history = former.ok() ? former->size() : 0;
  const size_t keep =
      std::min<size_t>(history + 1, static_cast<size_t>(options_.max_versions));
  info->version = next_version_;
  const JournalRecord record{JournalRecord::Op::kPut, *info, keep};
  if (const absl::Status recorded = journal_->Append(record); !recorded.ok()) {
    return StoreWriteError(recorded);
  }
  ++next_version_;
  live_bytes_ += EncodeRecord(record).size();
  if (history == 0) ledger_.Add(info->tenant, {.adapters = 1});
  RegistryEntry entry;
  entry.info = *info;
  entry.adapter = AddReferenceLocked(*info);
  std::vector<RegistryEntry> trimmed;
  registry_->Put(std::move(entry), keep, &trimmed);
  DropLocked(trimmed);
  return absl::OkStatus();
}

absl::StatusOr<PublishResult> AdapterStore::Rollback(
    absl::string_view tenant, const AdapterId& id,
    std::optional<uint64_t> expected_version) {
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(const std::vector<RegistryEntry> versions,
                           registry_->Versions(tenant, id.name));
  const auto target =
      id.digest.empty()
          ? versions.begin() + std::min<size_t>(1, versions.size())
          : std::find_if(versions.begin(), versions.end(),
                         [&id](const RegistryEntry& entry) {
                           return entry.info.digest == id.digest;
                         });
  if (target == versions.end() || (id.digest.empty() && versions.size() < 2)) {
    return ReasonedError(StatusCode::kNotFound, reason::kAdapterNotFound,
                         "no earlier version of that name", "adapter_id");
  }
  if (journal_->failed()) return StoreReadOnly();
  AdapterInfo info = target->info;
  info.created_unix = clock_->UnixSeconds();
  DESCANT_ASSIGN_OR_RETURN(
      const PublishOutcome outcome,
      registry_->CheckPublish(
          info, {.replace = true, .expected_version = expected_version}));
  DESCANT_RETURN_IF_ERROR(
      registry_->Lookup(tenant, {id.name, info.digest}).status());
  if (outcome == PublishOutcome::kUnchanged) {
    return PublishResult{versions.front().info, outcome};
  }
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rollback"));
  DESCANT_RETURN_IF_ERROR(RecordLocked(&info));
  RotateJournalLocked();
  return PublishResult{info, outcome};
}

}  // namespace descant
