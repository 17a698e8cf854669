#include "adapters/store_verify.h"

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/journal.h"
#include "adapters/name.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

class DirectoryCheck {
 public:
  DirectoryCheck(Fs* fs, const std::string& directory)
      : fs_(fs), directory_(directory), blobs_(directory + "/blobs") {}

  absl::StatusOr<StoreVerification> Run(
      const std::function<void(const VerifyResult&)>& on_version) {
    const auto lock = fs_->LockShared(directory_ + "/LOCK");
    found_.locked = lock.ok();
    DESCANT_ASSIGN_OR_RETURN(found_.format, ReadStoreFormat(fs_, directory_));
    DESCANT_ASSIGN_OR_RETURN(JournalFile journal,
                             ReadJournalFile(fs_, directory_));
    found_.journal_bytes = journal.size;
    found_.torn_journal_bytes = journal.size - journal.content.valid_bytes;
    for (const JournaledName& name :
         ReplayJournal(std::move(journal.content.records))) {
      ++found_.adapters;
      for (const AdapterInfo& info : name.versions) on_version(Check(info));
    }
    ListExtraFiles();
    return std::move(found_);
  }

 private:
  struct Read {
    absl::Status status;
    uint64_t bytes = 0;
  };

  // The bytes of a digest are read once, however many versions share them.
  VerifyResult Check(const AdapterInfo& info) {
    VerifyResult result;
    result.info = info;
    ++found_.versions;
    const std::string path = BlobPath(blobs_, info.tenant, info.digest);
    if (!IsDigest(info.digest)) {
      result.status = AdapterDataLoss();
    } else {
      wanted_.insert(path);
      const auto [it, first] = read_.try_emplace({path, info.base_fingerprint});
      if (first) {
        it->second = ReadWhole(path, info);
        found_.bytes += it->second.bytes;
      }
      result.status = it->second.status;
      result.bytes = it->second.bytes;
    }
    if (absl::IsUnavailable(result.status)) {
      ++found_.unreadable;
    } else if (!result.status.ok()) {
      ++found_.damaged;
    }
    return result;
  }

  Read ReadWhole(const std::string& path, const AdapterInfo& info) {
    const auto files = StoredFiles::Open(fs_, path, info, nullptr);
    if (!files.ok()) return {files.status(), 0};
    return {(*files)->Finish(), (*files)->safetensors_bytes()};
  }

  void AddExtra(const std::string& relative_path) {
    if (++found_.extra_files <= static_cast<int64_t>(kMaxListedExtraFiles)) {
      found_.extra_paths.push_back(LogSafe(relative_path));
    }
  }

  // What is in `relative` ("" for the store's own directory) and isn't known.
  template <typename Known>
  void ListOne(const std::string& relative, Known known) {
    const std::string prefix = relative.empty() ? "" : relative + "/";
    const auto entries = fs_->ListDirectory(
        relative.empty() ? directory_ : directory_ + "/" + relative);
    if (!entries.ok()) return;
    for (const DirectoryEntry& entry : *entries) {
      if (!known(entry)) AddExtra(prefix + entry.name);
    }
  }

  void ListExtraFiles() {
    const std::set<std::string> files = {"FORMAT", "LOCK", "journal"};
    const std::set<std::string> directories = {"blobs", "staging"};
    ListOne("", [&](const DirectoryEntry& entry) {
      return (entry.is_file && files.contains(entry.name)) ||
             (entry.is_directory && directories.contains(entry.name));
    });
    ListOne("staging", [](const DirectoryEntry&) { return false; });
    ListOne("blobs", [&](const DirectoryEntry& tenant) {
      if (!tenant.is_directory) return false;
      ListOne("blobs/" + tenant.name, [&](const DirectoryEntry& blob) {
        return wanted_.contains(
            absl::StrCat(blobs_, "/", tenant.name, "/", blob.name));
      });
      return true;
    });
  }

  Fs* const fs_;
  const std::string directory_;
  const std::string blobs_;
  StoreVerification found_;
  std::set<std::string> wanted_;  // paths
  std::map<std::pair<std::string, std::string>, Read> read_;
};

}  // namespace

absl::StatusOr<StoreVerification> VerifyStoreDirectory(
    Fs* fs, const std::string& directory,
    const std::function<void(const VerifyResult&)>& on_version) {
  return DirectoryCheck(fs, directory).Run(on_version);
}

}  // namespace descant
