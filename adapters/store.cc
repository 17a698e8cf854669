#include "adapters/store.h"

#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/identity.h"
#include "adapters/name.h"
#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

absl::Status ReadOnly() {
  return ReasonedError(StatusCode::kFailedPrecondition, reason::kStoreReadOnly,
                       "the store is read-only after a failed write");
}

// What the disk's answer means to a client.
absl::Status WriteError(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) {
    return ReasonedError(StatusCode::kResourceExhausted, reason::kStoreFull,
                         "the store is full");
  }
  return ReadOnly();
}

AdapterInfo MakeInfo(const UploadSpec& spec, const ValidatedAdapter& validated,
                     const BaseShape& base, double now) {
  AdapterInfo info;
  info.tenant = spec.tenant;
  info.name = spec.name;
  info.digest = validated.digest;
  info.file_bytes = spec.declared_size;
  DescribeModules(validated, &info);
  info.base_fingerprint = base.fingerprint;
  info.base_model_name = validated.config.base_model_name;
  info.created_unix = now;
  return info;
}

std::shared_ptr<const StoredTensorsContext> MakeContext(
    Fs* fs, const StoreOptions& options, std::shared_ptr<const BaseShape> base,
    AdapterRegistry* registry) {
  auto context = std::make_shared<StoredTensorsContext>();
  context->fs = fs;
  context->base = std::move(base);
  context->limits = options.limits;
  context->registry = registry;
  context->blobs = options.directory + "/blobs";
  return context;
}

}  // namespace

AdapterUpload::~AdapterUpload() {
  if (file_ == nullptr) return;
  file_.reset();
  store_->fs_->Remove(staging_path_).IgnoreError();
}

absl::Status AdapterUpload::Append(absl::Span<const char> chunk) {
  if (!status_.ok()) return status_;
  status_ = validator_->Append(chunk);
  if (!status_.ok()) return status_;
  const absl::Status written = file_->Append(chunk);
  if (!written.ok()) status_ = WriteError(written);
  return status_;
}

absl::StatusOr<PublishResult> AdapterUpload::Commit() {
  DESCANT_RETURN_IF_ERROR(status_);
  status_ = absl::FailedPreconditionError("the upload has ended");
  DESCANT_ASSIGN_OR_RETURN(const ValidatedAdapter validated,
                           validator_->Finish());
  if (!spec_.sha256.empty() && spec_.sha256 != validated.file_sha256) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kUploadSha256Mismatch,
                         "sha256 does not match the bytes", "sha256");
  }
  return store_->Publish(this, validated);
}

AdapterStore::AdapterStore(Fs* fs, const Clock* clock,
                           const StoreOptions& options,
                           std::shared_ptr<const BaseShape> base,
                           AdapterRegistry* registry)
    : fs_(fs),
      clock_(clock),
      options_(options),
      base_(std::move(base)),
      registry_(registry),
      context_(MakeContext(fs, options, base_, registry)) {}

AdapterStore::~AdapterStore() = default;

bool AdapterStore::read_only() const {
  MutexLock lock(&mutex_);
  return journal_->failed();
}

absl::StatusOr<std::unique_ptr<AdapterUpload>> AdapterStore::BeginUpload(
    UploadSpec spec) {
  DESCANT_RETURN_IF_ERROR(ValidateAdapterName(spec.name, options_.model_name));
  if (!spec.sha256.empty() && !IsSha256Hex(spec.sha256)) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kUploadSha256Invalid,
                         "sha256: want 64 lower-case hex digits", "sha256");
  }
  DESCANT_RETURN_IF_ERROR(CheckBaseFingerprint(spec.base_fingerprint, *base_));
  std::unique_ptr<AdapterUpload> upload(new AdapterUpload);
  DESCANT_ASSIGN_OR_RETURN(
      upload->validator_,
      AdapterValidator::Create(spec.config_json, spec.declared_size,
                               base_.get(), options_.limits));
  {
    MutexLock lock(&mutex_);
    if (journal_->failed()) return ReadOnly();
    upload->staging_path_ =
        absl::StrCat(options_.directory, "/staging/", next_staging_++);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> file =
      fs_->Create(upload->staging_path_);
  if (!file.ok()) return WriteError(file.status());
  upload->store_ = this;
  upload->file_ = *std::move(file);
  const std::string prefix =
      EncodeBlobPrefix(spec.config_json, spec.declared_size);
  if (const absl::Status written = upload->file_->Append(
          absl::MakeConstSpan(prefix.data(), prefix.size()));
      !written.ok()) {
    return WriteError(written);
  }
  upload->spec_ = std::move(spec);
  return upload;
}

absl::StatusOr<PublishResult> AdapterStore::Publish(
    AdapterUpload* upload, const ValidatedAdapter& validated) {
  const UploadSpec& spec = upload->spec_;
  // Checked again under the lock; here it saves the work of a lost cause.
  DESCANT_RETURN_IF_ERROR(registry_
                              ->CheckPublish(spec.tenant, spec.name,
                                             validated.digest, spec.condition)
                              .status());
  if (const absl::Status synced = SyncStaging(upload); !synced.ok()) {
    MutexLock lock(&mutex_);
    journal_->Fail();  // a failed sync is final
    return WriteError(synced);
  }
  RegistryEntry entry;
  entry.info = MakeInfo(spec, validated, *base_, clock_->UnixSeconds());

  MutexLock lock(&mutex_);
  if (journal_->failed()) return ReadOnly();
  DESCANT_ASSIGN_OR_RETURN(
      const PublishOutcome outcome,
      registry_->CheckPublish(spec.tenant, spec.name, validated.digest,
                              spec.condition));
  const absl::StatusOr<RegistryEntry> former =
      registry_->Get(spec.tenant, spec.name);
  if (outcome == PublishOutcome::kUnchanged) {
    return PublishResult{former->info, outcome};
  }
  DESCANT_RETURN_IF_ERROR(InstallBlob(upload, validated.digest));
  entry.info.version = next_version_;
  const absl::Status recorded =
      journal_->Append({JournalRecord::Op::kPut, entry.info});
  if (!recorded.ok()) return WriteError(recorded);
  ++next_version_;
  entry.adapter = AddReference(entry.info);
  const AdapterInfo info = entry.info;
  const auto published =
      registry_->Publish(std::move(entry), {.replace = true});
  DESCANT_CHECK(published.ok());  // the condition was checked above
  if (former.ok()) RemoveReference(former->info);
  return PublishResult{info, outcome};
}

absl::Status AdapterStore::SyncStaging(AdapterUpload* upload) {
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_blob_sync"));
  return upload->file_->Sync();
}

absl::Status AdapterStore::InstallBlob(AdapterUpload* upload,
                                       const std::string& digest) {
  const std::string& tenant = upload->spec_.tenant;
  const std::string directory = context_->TenantDirectory(tenant);
  const auto install = [&]() -> absl::Status {
    DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(directory));
    DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(options_.directory + "/blobs"));
    DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rename"));
    DESCANT_RETURN_IF_ERROR(
        fs_->Rename(upload->staging_path_, context_->BlobPath(tenant, digest)));
    upload->file_.reset();
    DESCANT_RETURN_IF_ERROR(Failpoint("store.before_directory_sync"));
    return fs_->SyncDirectory(directory);
  };
  const absl::Status status = install();
  if (status.ok()) return status;
  // Which of these steps are on disk is not known any more.
  if (!absl::IsResourceExhausted(status)) journal_->Fail();
  return WriteError(status);
}

absl::Status AdapterStore::Delete(absl::string_view tenant,
                                  absl::string_view name) {
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(const RegistryEntry entry,
                           registry_->Get(tenant, name));
  if (journal_->failed()) return ReadOnly();
  JournalRecord record{JournalRecord::Op::kDelete, entry.info};
  record.info.version = next_version_;
  if (const absl::Status recorded = journal_->Append(record); !recorded.ok()) {
    return WriteError(recorded);
  }
  ++next_version_;
  DESCANT_RETURN_IF_ERROR(registry_->Remove(tenant, name));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_blob_remove"));
  RemoveReference(entry.info);
  return absl::OkStatus();
}

std::shared_ptr<const Adapter> AdapterStore::AddReference(
    const AdapterInfo& info) {
  Reference& reference = references_[{info.tenant, info.digest}];
  if (reference.names++ == 0) {
    reference.tensors = std::make_shared<StoredTensors>(context_);
  }
  auto adapter = std::make_shared<Adapter>();
  adapter->tenant = info.tenant;
  adapter->name = info.name;
  adapter->digest = info.digest;
  adapter->max_rank = info.max_rank;
  adapter->created_unix = info.created_unix;
  adapter->source = reference.tensors;
  return adapter;
}

// Requests in flight may not have loaded the adapter yet: where there are any,
// they keep the file open.
void AdapterStore::RemoveReference(const AdapterInfo& info) {
  const auto it = references_.find({info.tenant, info.digest});
  DESCANT_CHECK(it != references_.end() && it->second.names > 0);
  if (--it->second.names > 0) return;
  const std::shared_ptr<StoredTensors> tensors = it->second.tensors;
  references_.erase(it);
  if (tensors.use_count() > 1) {
    absl::StatusOr<Blob> blob = Blob::Open(fs_, BlobPath(info));
    if (blob.ok()) tensors->Keep(*std::move(blob));
  }
  fs_->Remove(BlobPath(info)).IgnoreError();
}

}  // namespace descant
