// The file system behind an interface, so that tests can crash it, fill it and
// fail it. Only what the durable store needs.
#ifndef DESCANT_RUNTIME_BASE_FS_H_
#define DESCANT_RUNTIME_BASE_FS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace descant {

// An open file, written at its end. Closed on destruction. One thread.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Writes all of `data` or fails (RESOURCE_EXHAUSTED: the disk or a quota is
  // full); after a failure the file's tail is undefined.
  virtual absl::Status Append(absl::Span<const char> data) = 0;
  // Content and size reach the disk (fdatasync). A failure is final: a retry
  // may succeed without the data.
  virtual absl::Status Sync() = 0;
};

// Positional reads. Thread-safe.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Reads up to out.size() bytes at `offset`; fewer only at the file's end.
  virtual absl::StatusOr<size_t> Read(uint64_t offset,
                                      absl::Span<char> out) const = 0;
  virtual uint64_t size() const = 0;  // when it was opened
};

// Held until destruction.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct DirectoryEntry {
  std::string name;
  bool is_file = false;       // a regular file
  bool is_directory = false;  // neither: a link, a FIFO, a device
};

// Paths are made by us, never by a client; links are not followed in the last
// component. Thread-safe. Errors: NOT_FOUND, ALREADY_EXISTS,
// RESOURCE_EXHAUSTED (ENOSPC, EDQUOT, EMFILE), FAILED_PRECONDITION (EROFS,
// EACCES, EPERM), INVALID_ARGUMENT (not a regular file), UNAVAILABLE (the
// lock is taken), else DATA_LOSS (EIO and the rest). Interrupted calls (EINTR)
// and short counts are continued, never reported.
class Fs {
 public:
  virtual ~Fs() = default;

  // A new file with mode 0600; ALREADY_EXISTS if there is one.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(
      const std::string& path) = 0;
  // An existing file, cut to `size` bytes, to write from there.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(
      const std::string& path, uint64_t size) = 0;
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRead(
      const std::string& path) = 0;

  // Replaces `to`. Durable after SyncDirectory of the parent.
  virtual absl::Status Rename(const std::string& from,
                              const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  // Mode 0700. OK if the directory is there already.
  virtual absl::Status CreateDirectory(const std::string& path) = 0;
  // Removes an empty directory.
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // Sorted by name, without "." and "..".
  virtual absl::StatusOr<std::vector<DirectoryEntry>> ListDirectory(
      const std::string& path) = 0;
  // An exclusive advisory lock on a file made for it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(
      const std::string& path) = 0;
  // A shared one on a file that is there; needs no permission to write. Keeps
  // Lock out, and is kept out by it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> LockShared(
      const std::string& path) = 0;
};

// The real one. Stateless.
class PosixFs final : public Fs {
 public:
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
};

// The whole file; RESOURCE_EXHAUSTED when it is larger than `max_bytes`,
// DATA_LOSS when less than its size can be read.
absl::StatusOr<std::string> ReadFile(Fs* fs, const std::string& path,
                                     uint64_t max_bytes);

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_FS_H_
