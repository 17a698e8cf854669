#include "runtime/base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// No path in the message: it may reach a client.
absl::Status ErrnoStatus(int error, absl::string_view operation) {
  const std::string message =
      absl::StrCat(operation, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case EROFS:
    case EACCES:
    case EPERM:
      return absl::FailedPreconditionError(message);
    case ELOOP:
    case EISDIR:
    case ENOTDIR:
    case ENXIO:
      return absl::InvalidArgumentError(message);
    default:
      return absl::DataLossError(message);
  }
}

// Calls `call` until it isn't interrupted by a signal.
template <typename Call>
auto Uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::StatusOr<Descriptor> Open(const std::string& path, int flags,
                                absl::string_view operation) {
  const int fd = Uninterrupted([&] {
    return ::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0600);
  });
  if (fd < 0) return ErrnoStatus(errno, operation);
  return Descriptor(fd);
}

// Regular files only: a FIFO in the store must not block or feed us.
absl::StatusOr<uint64_t> RegularFileSize(const Descriptor& file) {
  struct stat info = {};
  if (::fstat(file.get(), &info) != 0) return ErrnoStatus(errno, "stat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError("not a regular file");
  }
  return static_cast<uint64_t>(info.st_size);
}

class PosixWritableFile final : public WritableFile {
 public:
  explicit PosixWritableFile(Descriptor file) : file_(std::move(file)) {}

  absl::Status Append(absl::Span<const char> data) override {
    while (!data.empty()) {
      const ssize_t written = Uninterrupted(
          [&] { return ::write(file_.get(), data.data(), data.size()); });
      if (written < 0) return ErrnoStatus(errno, "write");
      data.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (Uninterrupted([&] { return ::fdatasync(file_.get()); }) != 0) {
      return ErrnoStatus(errno, "fdatasync");
    }
    return absl::OkStatus();
  }

 private:
  const Descriptor file_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(Descriptor file, uint64_t size)
      : file_(std::move(file)), size_(size) {}

  absl::StatusOr<size_t> Read(uint64_t offset,
                              absl::Span<char> out) const override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got = Uninterrupted([&] {
        return ::pread(file_.get(), out.data() + done, out.size() - done,
                       static_cast<off_t>(offset + done));
      });
      if (got < 0) return ErrnoStatus(errno, "read");
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  uint64_t size() const override { return size_; }

 private:
  const Descriptor file_;
  const uint64_t size_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Descriptor file) : file_(std::move(file)) {}

 private:
  const Descriptor file_;  // closing it unlocks
};

}  // namespace

absl::StatusOr<std::unique_ptr<WritableFile>> PosixFs::Create(
    const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(Descriptor file,
                           Open(path, O_WRONLY | O_CREAT | O_EXCL, "create"));
  return std::make_unique<PosixWritableFile>(std::move(file));
}

absl::StatusOr<std::unique_ptr<WritableFile>> PosixFs::OpenAppend(
    const std::string& path, uint64_t size) {
  DESCANT_ASSIGN_OR_RETURN(Descriptor file,
                           Open(path, O_WRONLY | O_NONBLOCK, "open"));
  DESCANT_RETURN_IF_ERROR(RegularFileSize(file).status());
  if (Uninterrupted([&] {
        return ::ftruncate(file.get(), static_cast<off_t>(size));
      }) != 0) {
    return ErrnoStatus(errno, "truncate");
  }
  if (::lseek(file.get(), 0, SEEK_END) < 0) return ErrnoStatus(errno, "seek");
  return std::make_unique<PosixWritableFile>(std::move(file));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> PosixFs::OpenRead(
    const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(Descriptor file,
                           Open(path, O_RDONLY | O_NONBLOCK, "open"));
  DESCANT_ASSIGN_OR_RETURN(const uint64_t size, RegularFileSize(file));
  return std::make_unique<PosixReadableFile>(std::move(file), size);
}

absl::Status PosixFs::Rename(const std::string& from, const std::string& to) {
  if (Uninterrupted([&] { return ::rename(from.c_str(), to.c_str()); }) != 0) {
    return ErrnoStatus(errno, "rename");
  }
  return absl::OkStatus();
}

absl::Status PosixFs::Remove(const std::string& path) {
  if (Uninterrupted([&] { return ::unlink(path.c_str()); }) != 0) {
    return ErrnoStatus(errno, "remove");
  }
  return absl::OkStatus();
}

absl::Status PosixFs::CreateDirectory(const std::string& path) {
  if (Uninterrupted([&] { return ::mkdir(path.c_str(), 0700); }) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  struct stat info = {};
  if (error == EEXIST && ::lstat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return absl::OkStatus();
    return absl::InvalidArgumentError("not a directory");
  }
  return ErrnoStatus(error, "create directory");
}

absl::Status PosixFs::RemoveDirectory(const std::string& path) {
  if (Uninterrupted([&] { return ::rmdir(path.c_str()); }) != 0) {
    return ErrnoStatus(errno, "remove directory");
  }
  return absl::OkStatus();
}

absl::Status PosixFs::SyncDirectory(const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(
      const Descriptor directory,
      Open(path, O_RDONLY | O_DIRECTORY, "open directory"));
  if (Uninterrupted([&] { return ::fsync(directory.get()); }) != 0) {
    return ErrnoStatus(errno, "fsync directory");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<DirectoryEntry>> PosixFs::ListDirectory(
    const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return ErrnoStatus(errno, "list directory");
  std::vector<DirectoryEntry> entries;
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const absl::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info = {};
    DirectoryEntry item{.name = std::string(name)};
    if (::fstatat(::dirfd(directory), entry->d_name, &info,
                  AT_SYMLINK_NOFOLLOW) == 0) {
      item.is_file = S_ISREG(info.st_mode);
      item.is_directory = S_ISDIR(info.st_mode);
    }
    entries.push_back(std::move(item));
    errno = 0;
  }
  const int error = errno;
  ::closedir(directory);
  if (error != 0) return ErrnoStatus(error, "list directory");
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

namespace {

absl::StatusOr<std::unique_ptr<FileLock>> TakeLock(const std::string& path,
                                                   int flags, int operation) {
  DESCANT_ASSIGN_OR_RETURN(Descriptor file,
                           Open(path, flags | O_NONBLOCK, "open lock"));
  DESCANT_RETURN_IF_ERROR(RegularFileSize(file).status());
  if (Uninterrupted([&] { return ::flock(file.get(), operation | LOCK_NB); }) !=
      0) {
    if (errno == EWOULDBLOCK) return absl::UnavailableError("lock is taken");
    return ErrnoStatus(errno, "lock");
  }
  return std::make_unique<PosixFileLock>(std::move(file));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileLock>> PosixFs::Lock(
    const std::string& path) {
  return TakeLock(path, O_RDWR | O_CREAT, LOCK_EX);
}

absl::StatusOr<std::unique_ptr<FileLock>> PosixFs::LockShared(
    const std::string& path) {
  return TakeLock(path, O_RDONLY, LOCK_SH);
}

absl::StatusOr<std::string> ReadFile(Fs* fs, const std::string& path,
                                     uint64_t max_bytes) {
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs->OpenRead(path));
  if (file->size() > max_bytes) {
    return absl::ResourceExhaustedError("the file is too large");
  }
  std::string content(file->size(), '\0');
  DESCANT_ASSIGN_OR_RETURN(const size_t got,
                           file->Read(0, absl::MakeSpan(content)));
  if (got != content.size()) return absl::DataLossError("a short read");
  return content;
}

}  // namespace descant
