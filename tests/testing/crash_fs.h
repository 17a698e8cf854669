// A file system in memory that knows what a power cut may leave of it, and
// fails an operation on request.
//
// What is durable: a file's content at its last Sync, and the entries of a
// directory at its last SyncDirectory. Everything else may or may not survive,
// each entry by itself, each file's tail whole, in part, as zeros or not at
// all.
#ifndef DESCANT_TESTS_TESTING_CRASH_FS_H_
#define DESCANT_TESTS_TESTING_CRASH_FS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/fs.h"

namespace descant {

// One thread.
class CrashFs final : public Fs {
 public:
  // Directories and files by path; content of files.
  struct Snapshot {
    std::set<std::string> directories;
    std::map<std::string, std::string> files;
    bool operator<(const Snapshot& other) const {
      return std::tie(directories, files) <
             std::tie(other.directories, other.files);
    }
    template <typename H>
    friend H AbslHashValue(H hash, const Snapshot& snapshot) {
      for (const std::string& path : snapshot.directories) {
        hash = H::combine(std::move(hash), path);
      }
      for (const auto& [path, content] : snapshot.files) {
        hash = H::combine(std::move(hash), path, content);
      }
      return H::combine(std::move(hash), snapshot.files.size());
    }
  };

  CrashFs();
  // Everything in `snapshot` is durable.
  explicit CrashFs(const Snapshot& snapshot);

  // Every distinct state a crash now may leave: with each subset of the latest
  // changes of names, and unsynced data dropped, kept, torn in the middle or at
  // 512 bytes, or as zeros. `few`: of more than three changes of names only
  // none, all, all but one and one alone; for long traces.
  std::set<Snapshot> CrashStates(bool few = false) const;
  // What a running process sees.
  Snapshot Current() const;

  // Changes so far: writes, syncs, renames, creations, removals.
  int64_t operations() const { return operations_; }
  // Called after each change.
  void set_observer(std::function<void()> observer) {
    observer_ = std::move(observer);
  }
  // Change number `operation` (from 0) fails; half of a write is done.
  void FailOperation(int64_t operation, absl::Status status) {
    fail_at_ = operation;
    failure_ = std::move(status);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(
      const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(
      const std::string& path, uint64_t size) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(
      const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status CreateDirectory(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<DirectoryEntry>> ListDirectory(
      const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(
      const std::string& path) override;
  // As exclusive as Lock: no test shares one.
  absl::StatusOr<std::unique_ptr<FileLock>> LockShared(
      const std::string& path) override;

 private:
  friend class CrashWritableFile;
  struct Inode {
    std::string synced;
    std::string data;
  };
  using InodePtr = std::shared_ptr<Inode>;
  // Null inode: a directory.
  using Names = std::map<std::string, InodePtr>;
  // A change of names that no SyncDirectory has made durable yet.
  struct Pending {
    std::string directory;  // whose sync makes it durable
    std::string removed;    // "" where nothing is
    std::string added;
    InodePtr inode;
  };

  absl::Status Change();
  void Done();
  void AddPending(Pending change);
  static void Apply(const Pending& change, Names* names);

  Names names_;
  Names durable_;
  std::vector<Pending> pending_;
  std::set<std::string> locks_;
  int64_t operations_ = 0;
  int64_t fail_at_ = -1;
  absl::Status failure_;
  std::function<void()> observer_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_TESTING_CRASH_FS_H_
