#include "server/operator_file.h"

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

}  // namespace descant
