#include "adapters/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "adapters/store_error.h"
#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

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

absl::Status CheckSpec(const UploadSpec& spec, const std::string& model_name,
                       const BaseShape& base) {
  DESCANT_RETURN_IF_ERROR(ValidateAdapterName(spec.name, model_name));
  DESCANT_RETURN_IF_ERROR(ValidateLabels(spec.labels));
  if (!spec.sha256.empty() && !IsSha256Hex(spec.sha256)) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kUploadSha256Invalid,
                         "sha256: want 64 lower-case hex digits", "sha256");
  }
  DESCANT_RETURN_IF_ERROR(CheckBaseFingerprint(spec.base_fingerprint, base));
  if (spec.format == AdapterFormat::kGguf && !spec.config_json.empty()) {
    return ReasonedError(StatusCode::kInvalidArgument, reason::kUploadFormat,
                         "config_json: a GGUF file has none beside it",
                         "config_json");
  }
  return absl::OkStatus();
}

absl::Status CheckExpectation(const absl::StatusOr<RegistryEntry>& current,
                              std::optional<uint64_t> expected) {
  const uint64_t version = current.ok() ? current->info.version : 0;
  if (!expected.has_value() || *expected == version) return absl::OkStatus();
  return ReasonedError(StatusCode::kAborted, reason::kAdapterVersionMismatch,
                       "the adapter's version is not the expected one",
                       "expected_version");
}

}  // namespace

AdapterStore::AdapterStore(Fs* fs, const Clock* clock,
                           const StoreOptions& options,
                           std::shared_ptr<const BaseShape> base,
                           AdapterRegistry* registry)
    : fs_(fs),
      clock_(clock),
      options_(options),
      base_(std::move(base)),
      registry_(registry),
      context_(MakeContext(fs, options, base_, registry)),
      rotate_at_(options.rotate_bytes),
      blobs_(context_),
      ledger_(options.total, options.per_tenant) {
  DESCANT_CHECK(options.max_versions >= 1);
}

AdapterStore::~AdapterStore() = default;

bool AdapterStore::read_only() const {
  MutexLock lock(&mutex_);
  return journal_->failed();
}

StoreStats AdapterStore::Stats() const {
  const AdapterRegistry::Usage usage = registry_->TotalUsage();
  StoreStats stats;
  stats.adapters = usage.adapters;
  stats.versions = usage.versions;
  stats.quarantined = usage.damaged;
  MutexLock lock(&mutex_);
  stats.stored_bytes = ledger_.total().stored_bytes;
  stats.staged_bytes = ledger_.total().staged_bytes;
  stats.open_uploads = ledger_.total().uploads;
  stats.garbage_bytes = blobs_.garbage_bytes();
  stats.journal_bytes = journal_->bytes();
  stats.read_only = journal_->failed();
  return stats;
}

absl::StatusOr<std::unique_ptr<AdapterUpload>> AdapterStore::BeginUpload(
    UploadSpec spec) {
  DESCANT_RETURN_IF_ERROR(CheckSpec(spec, options_.model_name, *base_));
  std::unique_ptr<AdapterUpload> upload(new AdapterUpload(this));
  // The config, the sizes: before anything is reserved.
  const bool gguf = spec.format == AdapterFormat::kGguf;
  upload->limits_ = options_.limits;
  if (spec.max_rank > 0) {
    upload->limits_.max_rank =
        std::min(upload->limits_.max_rank, spec.max_rank);
  }
  if (gguf) {
    DESCANT_ASSIGN_OR_RETURN(
        upload->gguf_, GgufLoraReader::Create(spec.declared_size, base_.get(),
                                              upload->limits_));
    upload->gguf_hash_.emplace();
  } else {
    DESCANT_ASSIGN_OR_RETURN(
        upload->validator_,
        AdapterValidator::Create(spec.config_json, spec.declared_size,
                                 base_.get(), upload->limits_));
  }
  {
    MutexLock lock(&mutex_);
    if (journal_->failed()) return StoreReadOnly();
    const auto current = registry_->Get(spec.tenant, spec.name);
    DESCANT_RETURN_IF_ERROR(
        CheckExpectation(current, spec.condition.expected_version));
    StoreUsage ask;
    ask.uploads = 1;
    ask.staged_bytes = spec.declared_size;
    if (!current.ok()) ask.adapters = 1;
    DESCANT_RETURN_IF_ERROR(ledger_.Check(spec.tenant, ask, spec.quota));
    if (spec.validate_only) ask = StoreUsage{.uploads = 1};
    ledger_.Add(spec.tenant, ask);
    upload->reserved_ = ask;
    upload->staging_path_ =
        absl::StrCat(options_.directory, "/staging/", next_staging_++);
  }
  upload->spec_ = std::move(spec);
  if (gguf) return upload;
  DESCANT_RETURN_IF_ERROR(upload->BeginPair(upload->spec_.config_json,
                                            upload->spec_.declared_size));
  return upload;
}

absl::Status AdapterStore::ReservePair(AdapterUpload* upload,
                                       uint64_t pair_bytes) {
  const uint64_t reserved = upload->reserved_.staged_bytes;
  if (upload->spec_.validate_only || pair_bytes <= reserved) {
    return absl::OkStatus();
  }
  const StoreUsage more{.staged_bytes = pair_bytes - reserved};
  MutexLock lock(&mutex_);
  DESCANT_RETURN_IF_ERROR(
      ledger_.Check(upload->spec_.tenant, more, upload->spec_.quota));
  ledger_.Add(upload->spec_.tenant, more);
  upload->reserved_ += more;
  return absl::OkStatus();
}

void AdapterStore::Release(const std::string& tenant,
                           const StoreUsage& reserved) {
  MutexLock lock(&mutex_);
  ledger_.Subtract(tenant, reserved);
}

absl::Status AdapterStore::Delete(absl::string_view tenant,
                                  absl::string_view name,
                                  std::optional<uint64_t> expected_version) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<RegistryEntry> entry = registry_->Get(tenant, name);
  DESCANT_RETURN_IF_ERROR(entry.status());
  DESCANT_RETURN_IF_ERROR(CheckExpectation(entry, expected_version));
  if (journal_->failed()) return StoreReadOnly();
  JournalRecord record{JournalRecord::Op::kDelete, entry->info};
  record.info.version = next_version_;
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_delete"));
  if (const absl::Status recorded = journal_->Append(record); !recorded.ok()) {
    return StoreWriteError(recorded);
  }
  ++next_version_;
  const uint64_t sharing =
      SharingBytes(tenant, name, registry_->SharingOf(tenant, name));
  std::vector<RegistryEntry> removed;
  DESCANT_RETURN_IF_ERROR(registry_->Remove(tenant, name, &removed));
  DropLocked(removed);
  live_bytes_ -= std::min(live_bytes_, sharing);
  ledger_.Subtract(tenant, {.adapters = 1});
  RotateJournalLocked();
  return absl::OkStatus();
}

absl::StatusOr<RegistryEntry> AdapterStore::Share(absl::string_view tenant,
                                                  absl::string_view name,
                                                  AdapterSharing sharing) {
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(RegistryEntry entry, registry_->Get(tenant, name));
  if (journal_->failed()) return StoreReadOnly();
  const AdapterSharing former = registry_->SharingOf(tenant, name);
  if (sharing == former) return entry;
  JournalRecord record{JournalRecord::Op::kShare, entry.info};
  record.info.version = next_version_ - 1;
  record.sharing = sharing;
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_share"));
  if (const absl::Status recorded = journal_->Append(record); !recorded.ok()) {
    return StoreWriteError(recorded);
  }
  live_bytes_ += SharingBytes(tenant, name, sharing);
  live_bytes_ -= std::min(live_bytes_, SharingBytes(tenant, name, former));
  DESCANT_RETURN_IF_ERROR(registry_->Share(tenant, name, std::move(sharing)));
  RotateJournalLocked();
  return entry;
}

std::shared_ptr<StoredTensors> AdapterStore::SourceOf(
    const AdapterInfo& info) const {
  MutexLock lock(&mutex_);
  const BlobReferences::Reference* reference =
      blobs_.Find(info.tenant, info.digest);
  return reference == nullptr ? nullptr : reference->tensors;
}

absl::StatusOr<std::unique_ptr<StoredFiles>> AdapterStore::OpenFiles(
    const RegistryEntry& entry) {
  std::shared_ptr<StoredTensors> source = SourceOf(entry.info);
  if (source == nullptr) {
    return AdapterNotFound();
  }
  if (source->damaged()) return AdapterDataLoss();
  return StoredFiles::Open(fs_, PathOf(entry.info), entry.info,
                           std::move(source));
}

VerifyResult AdapterStore::Verify(const AdapterInfo& info) {
  VerifyResult result;
  result.info = info;
  std::shared_ptr<StoredTensors> source = SourceOf(info);
  if (source == nullptr) {
    result.status = AdapterNotFound();
    return result;
  }
  auto files = StoredFiles::Open(fs_, PathOf(info), info, source);
  result.status = files.ok() ? (*files)->Finish() : files.status();
  if (files.ok()) result.bytes = (*files)->safetensors_bytes();
  if (result.status.ok() && source->damaged()) {
    source->set_damaged(false);
    registry_->Restore(info.tenant, info.digest, source, result.bytes,
                       base_->fingerprint);
  }
  return result;
}

}  // namespace descant
