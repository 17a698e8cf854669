// Opening a store: format, lock, journal, blobs, clean-up.
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/store.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

constexpr int32_t kFormatNumber = 1;
constexpr absl::string_view kFormatText = "1\n";
constexpr uint64_t kMaxFormatBytes = 64;

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The latest record of each name.
std::vector<AdapterInfo> Replay(const std::vector<JournalRecord>& records) {
  std::map<std::pair<std::string, std::string>, AdapterInfo> current;
  for (const JournalRecord& record : records) {
    const std::pair key(record.info.tenant, record.info.name);
    if (record.op == JournalRecord::Op::kPut) {
      current[key] = record.info;
    } else {
      current.erase(key);
    }
  }
  std::vector<AdapterInfo> infos;
  for (auto& [key, info] : current) infos.push_back(std::move(info));
  return infos;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AdapterStore>> AdapterStore::Open(
    Fs* fs, const Clock* clock, const StoreOptions& options,
    std::shared_ptr<const BaseShape> base, AdapterRegistry* registry) {
  std::unique_ptr<AdapterStore> store(
      new AdapterStore(fs, clock, options, std::move(base), registry));
  DESCANT_RETURN_IF_ERROR(store->Prepare());
  DESCANT_RETURN_IF_ERROR(store->Recover());
  store->CleanUp();
  return store;
}

// Directories, the lock, then the format, before anything else is touched.
absl::Status AdapterStore::Prepare() {
  const std::string& root = options_.directory;
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(root));
  DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(ParentOf(root)));
  absl::StatusOr<std::unique_ptr<FileLock>> lock = fs_->Lock(root + "/LOCK");
  if (absl::IsUnavailable(lock.status())) {
    return ReasonedError(StatusCode::kUnavailable, reason::kStoreLocked,
                         "another process uses the adapter store");
  }
  DESCANT_RETURN_IF_ERROR(lock.status());
  lock_ = *std::move(lock);
  DESCANT_RETURN_IF_ERROR(CheckFormat());
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(root + "/blobs"));
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(root + "/staging"));
  return fs_->SyncDirectory(root);
}

absl::Status AdapterStore::CheckFormat() {
  const std::string path = options_.directory + "/FORMAT";
  const absl::StatusOr<std::string> text = ReadFile(fs_, path, kMaxFormatBytes);
  if (absl::IsNotFound(text.status())) {
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
  DESCANT_RETURN_IF_ERROR(text.status());
  int32_t number = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &number) ||
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
  return absl::OkStatus();
}

absl::Status AdapterStore::Recover() {
  std::vector<JournalRecord> records;
  {
    MutexLock lock(&mutex_);
    DESCANT_ASSIGN_OR_RETURN(journal_,
                             Journal::Open(fs_, options_.directory, &records));
    for (const JournalRecord& record : records) {
      next_version_ = std::max(next_version_, record.info.version + 1);
    }
  }
  for (const AdapterInfo& info : Replay(records)) RecoverOne(info);
  return absl::OkStatus();
}

void AdapterStore::RecoverOne(const AdapterInfo& info) {
  RegistryEntry entry;
  entry.info = info;
  if (info.base_fingerprint != base_->fingerprint) {
    entry.state = AdapterState::kIncompatible;
    ++recovery_.incompatible;
  } else if (const absl::Status stored = CheckStored(&entry.info);
             stored.ok()) {
    ++recovery_.ready;
  } else {
    entry.state = AdapterState::kCorrupt;
    ++recovery_.corrupt;
    recovery_.messages.push_back(
        absl::StrCat("adapter ", LogSafe(info.name), " version ", info.version,
                     " is quarantined: ", std::string(stored.message())));
  }
  MutexLock lock(&mutex_);
  std::shared_ptr<const Adapter> adapter = AddReference(entry.info);
  if (entry.state == AdapterState::kReady) entry.adapter = std::move(adapter);
  registry_->Publish(std::move(entry), {.replace = true}).IgnoreError();
}

// The blob's header and size, not its tensors: a start must not read them all.
absl::Status AdapterStore::CheckStored(AdapterInfo* info) {
  if (info->max_rank > options_.limits.max_rank) {
    return absl::InvalidArgumentError(absl::StrCat("its rank ", info->max_rank,
                                                   " is above the limit of ",
                                                   options_.limits.max_rank));
  }
  if (info->file_bytes > options_.limits.max_file_bytes) {
    return absl::InvalidArgumentError("its file is above the limit");
  }
  DESCANT_ASSIGN_OR_RETURN(const Blob blob, Blob::Open(fs_, BlobPath(*info)));
  if (blob.safetensors_bytes() != info->file_bytes) {
    return ReasonedError(StatusCode::kDataLoss, reason::kAdapterDataLoss,
                         "its file has another size than was stored");
  }
  if (info->module_kinds != 0) return absl::OkStatus();
  return blob.ReadAdapter(base_.get(), options_.limits, info).status();
}

// Removes what no record names. Links are removed, never followed. Failures
// cost space, not correctness.
void AdapterStore::CleanUp() {
  absl::flat_hash_set<std::string> wanted;
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, reference] : references_) {
      wanted.insert(context_->BlobPath(key.first, key.second));
    }
  }
  RemoveUnwanted(options_.directory + "/staging", {});
  const std::string blobs = options_.directory + "/blobs";
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
