#include "server/operator_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

absl::Status Unreadable(const std::string& path) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": cannot be read as a file"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReadableFile>> OpenOperatorFile(
    const std::string& path) {
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error).string();
  if (error) return Unreadable(path);
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = PosixFs().OpenRead(real);
  if (!file.ok()) return Unreadable(path);
  return file;
}

absl::StatusOr<std::string> ReadOperatorFile(const std::string& path,
                                             uint64_t max_bytes) {
  DESCANT_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file,
                           OpenOperatorFile(path));
  if (file->size() > max_bytes) return Unreadable(path);
  std::string content(file->size(), '\0');
  const absl::StatusOr<size_t> got = file->Read(0, absl::MakeSpan(content));
  if (!got.ok() || *got != content.size()) return Unreadable(path);
  return content;
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& path,
                                           uint64_t max_bytes,
                                           mode_t forbidden) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Unreadable(path);
  const std::unique_ptr<const int, void (*)(const int*)> closer(
      &fd, [](const int* open_fd) { close(*open_fd); });
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return Unreadable(path);
  if ((info.st_mode & forbidden & 0777) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", (forbidden & 070) != 0 ? "group or others" : "others",
        " may use it; only its owner may: chmod 600"));
  }
  std::string content;
  std::array<char, 65536> buffer;
  for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) != 0;) {
    if (n < 0) return Unreadable(path);
    content.append(buffer.data(), static_cast<size_t>(n));
    if (content.size() > max_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": is too large"));
    }
  }
  return content;
}

}  // namespace descant
