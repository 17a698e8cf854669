// A file system in front of another one that counts calls, fails a chosen one,
// or refuses every write.
#ifndef DESCANT_TESTS_TESTING_FAULT_FS_H_
#define DESCANT_TESTS_TESTING_FAULT_FS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/fs.h"

namespace descant {

// Thread-safe where the one behind it is, but for the setters.
class FaultFs final : public Fs {
 public:
  // `behind` must outlive this and its files.
  explicit FaultFs(Fs* behind) : behind_(behind) {}

  // Calls so far: of every kind; of OpenRead; of reads.
  int64_t calls() const { return calls_.load(); }
  int64_t opens() const { return opens_.load(); }
  int64_t reads() const { return reads_.load(); }

  // Call number `call` (from 0, counted by calls()) fails with `failure`; half
  // of a write is done. With `short_count` a read gives half and says OK;
  // other calls then succeed.
  void FailCall(int64_t call, absl::Status failure, bool short_count = false) {
    fail_at_ = call;
    failure_ = std::move(failure);
    short_count_ = short_count;
  }
  // Whatever would write fails with this, until it is OK.
  void RefuseWrites(absl::Status failure) { refusal_ = std::move(failure); }

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
  absl::StatusOr<std::unique_ptr<FileLock>> LockShared(
      const std::string& path) override;

 private:
  friend class FaultWritableFile;
  friend class FaultReadableFile;

  enum class Kind { kRead, kWrite };
  // Counts the call; what it fails with.
  absl::Status Call(Kind kind, bool* shorten = nullptr);

  Fs* const behind_;
  std::atomic<int64_t> calls_{0};
  std::atomic<int64_t> opens_{0};
  std::atomic<int64_t> reads_{0};
  int64_t fail_at_ = -1;
  absl::Status failure_;
  bool short_count_ = false;
  absl::Status refusal_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_TESTING_FAULT_FS_H_
