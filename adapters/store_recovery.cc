// Opening a store: format, lock, journal, blobs, clean-up.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "adapters/store.h"
#include "adapters/store_error.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

// 1: names had one version. A server of that format would take the blobs of
// earlier versions for garbage. 2: names were not shared. A server of that
// format would take the first record of a sharing for the end of the journal.
constexpr int32_t kFormatNumber = 3;
constexpr absl::string_view kFormatText = "3\n";

absl::Status StoreLocked() {
  return ReasonedError(StatusCode::kUnavailable, reason::kStoreLocked,
                       "another process uses the adapter store");
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// No permission, or no room: the store may still be read.
bool ForbidsWriting(const absl::Status& status) {
  return ReasonOf(status).empty() && (absl::IsFailedPrecondition(status) ||
                                      absl::IsResourceExhausted(status));
}

}  // namespace

absl::StatusOr<int32_t> ReadStoreFormat(Fs* fs, const std::string& directory) {
  constexpr uint64_t kMaxFormatBytes = 64;
  DESCANT_ASSIGN_OR_RETURN(const auto file,
                           fs->OpenRead(directory + "/FORMAT"));
  std::string text(std::min(file->size(), kMaxFormatBytes), '\0');
  DESCANT_ASSIGN_OR_RETURN(const size_t got,
                           file->Read(0, absl::MakeSpan(text)));
  text.resize(got);
  int32_t number = 0;
  if (file->size() > kMaxFormatBytes ||
      !absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &number) ||
      number < 1) {
    return ReasonedError(StatusCode::kDataLoss, reason::kStoreCorrupt,
                         "the store's FORMAT file is damaged");
  }
  if (number > kFormatNumber) {
    return ReasonedError(
        StatusCode::kFailedPrecondition, reason::kStoreFormatNewer,
        absl::StrCat("the store has format ", number,
                     ", this server reads up to ", kFormatNumber));
  }
  return number;
}

absl::StatusOr<std::unique_ptr<AdapterStore>> AdapterStore::Open(
    Fs* fs, const Clock* clock, const StoreOptions& options,
    std::shared_ptr<const BaseShape> base, AdapterRegistry* registry) {
  std::unique_ptr<AdapterStore> store(
      new AdapterStore(fs, clock, options, std::move(base), registry));
  DESCANT_RETURN_IF_ERROR(store->Prepare());
  DESCANT_RETURN_IF_ERROR(store->Recover());
  if (!store->opened_read_only_) store->CleanUp();
  return store;
}

absl::Status AdapterStore::Prepare() {
  const absl::Status writable = PrepareWritable();
  if (!ForbidsWriting(writable)) return writable;
  return PrepareReadOnly(writable);
}

// Directories, the lock, then the format, before anything else is touched.
absl::Status AdapterStore::PrepareWritable() {
  const std::string& root = options_.directory;
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(root));
  DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(ParentOf(root)));
  DESCANT_RETURN_IF_ERROR(TakeLock());
  DESCANT_RETURN_IF_ERROR(CheckFormat(/*writable=*/true));
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(context_->blobs));
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(root + "/staging"));
  DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(root));
  return ProbeWriting();
}

absl::Status AdapterStore::PrepareReadOnly(const absl::Status& why) {
  opened_read_only_ = true;
  const std::string& root = options_.directory;
  if (lock_ == nullptr) {
    auto lock = fs_->LockShared(root + "/LOCK");
    if (absl::IsUnavailable(lock.status())) return StoreLocked();
    // Without one where there is none to take: nobody writes here.
    if (lock.ok()) lock_ = *std::move(lock);
  }
  absl::Status readable = CheckFormat(/*writable=*/false);
  if (readable.ok()) readable = fs_->OpenRead(root + "/journal").status();
  if (absl::IsNotFound(readable) || ForbidsWriting(readable)) {
    return ReasonedError(StatusCode::kFailedPrecondition,
                         reason::kStoreReadOnly,
                         "the store's directory cannot be written, and holds "
                         "no store that can be read");
  }
  DESCANT_RETURN_IF_ERROR(readable);
  recovery_.messages.push_back(
      absl::StrCat("the adapter store cannot be written (",
                   std::string(why.message()), "): it is served read-only"));
  return absl::OkStatus();
}

absl::Status AdapterStore::TakeLock() {
  auto lock = fs_->Lock(options_.directory + "/LOCK");
  if (absl::IsUnavailable(lock.status())) return StoreLocked();
  DESCANT_RETURN_IF_ERROR(lock.status());
  lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status AdapterStore::CheckFormat(bool writable) {
  const absl::StatusOr<int32_t> number =
      ReadStoreFormat(fs_, options_.directory);
  if (absl::IsNotFound(number.status()) && writable) return WriteFormat();
  DESCANT_RETURN_IF_ERROR(number.status());
  // The records of older formats are records of this one.
  return *number < kFormatNumber && writable ? WriteFormat() : absl::OkStatus();
}

absl::Status AdapterStore::WriteFormat() {
  const std::string path = options_.directory + "/FORMAT";
  const std::string temporary = path + ".new";
  if (const absl::Status removed = fs_->Remove(temporary);
      !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs_->Create(temporary));
  DESCANT_RETURN_IF_ERROR(file->Append(
      absl::MakeConstSpan(kFormatText.data(), kFormatText.size())));
  DESCANT_RETURN_IF_ERROR(file->Sync());
  DESCANT_RETURN_IF_ERROR(fs_->Rename(temporary, path));
  return fs_->SyncDirectory(options_.directory);
}

// A full disk shows at the start, not at the first upload.
absl::Status AdapterStore::ProbeWriting() {
  const std::string path = options_.directory + "/staging/probe";
  if (const absl::Status removed = fs_->Remove(path);
      !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  const std::string block(4096, '\0');
  absl::Status written;
  {
    DESCANT_ASSIGN_OR_RETURN(const auto file, fs_->Create(path));
    written = file->Append(absl::MakeConstSpan(block.data(), block.size()));
    if (written.ok()) written = file->Sync();
  }
  fs_->Remove(path).IgnoreError();
  return written;
}

absl::Status AdapterStore::Recover() {
  std::vector<JournalRecord> records;
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(
      journal_, opened_read_only_
                    ? Journal::OpenReadOnly(fs_, options_.directory, &records)
                    : Journal::Open(fs_, options_.directory, &records));
  for (const JournalRecord& record : records) {
    next_version_ = std::max(next_version_, record.info.version + 1);
  }
  for (JournaledName& name : ReplayJournal(std::move(records))) {
    // What the journal said is freed while the registry grows.
    std::vector<AdapterInfo> versions = std::move(name.versions);
    const std::string tenant = versions.front().tenant;
    const std::string adapter = versions.front().name;
    ledger_.Add(tenant, {.adapters = 1});
    for (AdapterInfo& info : versions) {
      RecoverOne(std::move(info), versions.size());
    }
    if (name.sharing.nobody()) continue;
    live_bytes_ += SharingBytes(tenant, adapter, name.sharing);
    DESCANT_RETURN_IF_ERROR(
        registry_->Share(tenant, adapter, std::move(name.sharing)));
  }
  return absl::OkStatus();
}

void AdapterStore::RecoverOne(AdapterInfo info, size_t keep) {
  live_bytes_ += EncodeRecord({JournalRecord::Op::kPut, info, keep}).size();
  RegistryEntry entry;
  const absl::Status stored = CheckStored(&info);
  if (absl::IsFailedPrecondition(stored)) {
    entry.state = AdapterState::kIncompatible;
    ++recovery_.incompatible;
  } else if (stored.ok()) {
    ++recovery_.ready;
  } else {
    entry.state = AdapterState::kCorrupt;
    ++recovery_.corrupt;
    recovery_.messages.push_back(
        absl::StrCat("adapter ", LogSafe(info.name), " version ", info.version,
                     " is quarantined: ", std::string(stored.message())));
  }
  entry.info = std::move(info);
  entry.adapter = AddReferenceLocked(entry.info);
  if (entry.state == AdapterState::kCorrupt) {
    blobs_.Find(entry.info.tenant, entry.info.digest)
        ->tensors->set_damaged(true);
  }
  registry_->Put(std::move(entry), keep);
}

// The blob's header and size, not its tensors: a start must not read them all.
// FAILED_PRECONDITION: sound, and not for this server.
absl::Status AdapterStore::CheckStored(AdapterInfo* info) {
  if (!IsDigest(info->digest)) return AdapterDataLoss();
  const absl::StatusOr<Blob> blob = Blob::Open(fs_, PathOf(*info));
  if (!blob.ok()) {
    return absl::DataLossError(std::string(blob.status().message()));
  }
  // The digest is the proof of the content, not its length: the same digest
  // may have been stored as other bytes.
  info->file_bytes = blob->safetensors_bytes();
  if (info->base_fingerprint != base_->fingerprint ||
      info->max_rank > options_.limits.max_rank ||
      info->file_bytes > options_.limits.max_file_bytes) {
    return absl::FailedPreconditionError("not for this server");
  }
  if (info->module_kinds != 0) return absl::OkStatus();
  const absl::Status read =
      blob->ReadAdapter(base_.get(), options_.limits, info).status();
  return read.ok() ? read : absl::DataLossError(std::string(read.message()));
}

// Removes what no record names. Links are removed, never followed. Failures
// cost space, not correctness.
void AdapterStore::CleanUp() {
  absl::flat_hash_set<std::string> wanted;
  for (const AdapterInfo& info : registry_->AllVersions()) {
    wanted.insert(PathOf(info));
  }
  RemoveUnwanted(options_.directory + "/staging", {});
  const std::string& blobs = context_->blobs;
  const auto tenants = fs_->ListDirectory(blobs);
  if (!tenants.ok()) return;
  for (const DirectoryEntry& tenant : *tenants) {
    const std::string path = absl::StrCat(blobs, "/", tenant.name);
    if (tenant.is_directory) {
      RemoveUnwanted(path, wanted);
      fs_->RemoveDirectory(path).IgnoreError();  // stays where not empty
    } else if (fs_->Remove(path).ok()) {
      ++recovery_.removed_files;
    }
  }
}

void AdapterStore::RemoveUnwanted(
    const std::string& directory,
    const absl::flat_hash_set<std::string>& wanted) {
  const auto entries = fs_->ListDirectory(directory);
  if (!entries.ok()) return;
  for (const DirectoryEntry& entry : *entries) {
    const std::string path = absl::StrCat(directory, "/", entry.name);
    if (entry.is_file && wanted.contains(path)) continue;
    const absl::Status removed =
        entry.is_directory ? fs_->RemoveDirectory(path) : fs_->Remove(path);
    if (removed.ok()) ++recovery_.removed_files;
  }
}

}  // namespace descant
