#include "server/cli/adapter_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace descant::cli {
namespace {

absl::Status FileError(const std::string& path, int error) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  if (error == EEXIST) return absl::AlreadyExistsError(message);
  return absl::FailedPreconditionError(message);
}

absl::Status Write(std::FILE* stream, absl::string_view bytes,
                   const std::string& path) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stream) == bytes.size()) {
    return absl::OkStatus();
  }
  return FileError(path, errno);
}

}  // namespace

AdapterFolder::AdapterFolder(const std::string& path, bool overwrite)
    : overwrite_(overwrite) {
  config_.path = path + "/" + kAdapterConfigFile;
  tensors_.path = path + "/" + kAdapterTensorsFile;
}

absl::StatusOr<std::unique_ptr<AdapterFolder>> AdapterFolder::Open(
    const std::string& path, bool overwrite) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError(path, error.value());
  std::unique_ptr<AdapterFolder> folder(new AdapterFolder(path, overwrite));
  for (File* file : {&folder->config_, &folder->tensors_}) {
    if (!overwrite && std::filesystem::exists(file->path, error)) {
      return absl::AlreadyExistsError(
          absl::StrCat(file->path, " is there already; see --force"));
    }
    DESCANT_RETURN_IF_ERROR(folder->Create(file));
  }
  return folder;
}

AdapterFolder::~AdapterFolder() {
  for (const File* file : {&config_, &tensors_}) {
    if (file->stream != nullptr) std::fclose(file->stream);
    if (!file->temporary.empty()) unlink(file->temporary.c_str());
  }
}

absl::Status AdapterFolder::Create(File* file) {
  const std::string path = absl::StrCat(file->path, ".", getpid(), ".partial");
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(path, errno);
  file->temporary = path;
  file->stream = fdopen(fd, "wb");
  if (file->stream != nullptr) return absl::OkStatus();
  const int error = errno;
  close(fd);
  return FileError(path, error);
}

absl::Status AdapterFolder::WriteConfig(absl::string_view json) {
  return Write(config_.stream, json, config_.path);
}

absl::Status AdapterFolder::AppendTensors(absl::string_view bytes) {
  return Write(tensors_.stream, bytes, tensors_.path);
}

absl::Status AdapterFolder::Sync(File* file) {
  std::FILE* const stream = file->stream;
  const bool synced =
      std::fflush(stream) == 0 && fdatasync(fileno(stream)) == 0;
  int error = synced ? 0 : errno;
  file->stream = nullptr;
  if (std::fclose(stream) != 0 && error == 0) error = errno;
  return error == 0 ? absl::OkStatus() : FileError(file->path, error);
}

absl::Status AdapterFolder::Publish(File* file) {
  const char* from = file->temporary.c_str();
  const char* to = file->path.c_str();
  int result = overwrite_
                   ? rename(from, to)
                   : renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
  // Not every file system has that flag; the file was not there a while ago.
  if (result != 0 && !overwrite_ && (errno == EINVAL || errno == ENOSYS)) {
    result = rename(from, to);
  }
  if (result != 0) return FileError(file->path, errno);
  file->temporary.clear();
  return absl::OkStatus();
}

absl::Status AdapterFolder::Commit() {
  DESCANT_RETURN_IF_ERROR(Sync(&config_));
  DESCANT_RETURN_IF_ERROR(Sync(&tensors_));
  DESCANT_RETURN_IF_ERROR(Publish(&tensors_));
  const absl::Status status = Publish(&config_);
  // Half a pair is none.
  if (!status.ok()) unlink(tensors_.path.c_str());
  return status;
}

}  // namespace descant::cli
