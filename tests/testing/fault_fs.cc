#include "tests/testing/fault_fs.h"

#include <utility>

#include "runtime/base/status_macros.h"

namespace descant {

class FaultWritableFile final : public WritableFile {
 public:
  FaultWritableFile(FaultFs* fs, std::unique_ptr<WritableFile> file)
      : fs_(fs), file_(std::move(file)) {}
  absl::Status Append(absl::Span<const char> data) override {
    const absl::Status status = fs_->Call(FaultFs::Kind::kWrite);
    if (status.ok()) return file_->Append(data);
    file_->Append(data.subspan(0, data.size() / 2)).IgnoreError();
    return status;
  }
  absl::Status Sync() override {
    DESCANT_RETURN_IF_ERROR(fs_->Call(FaultFs::Kind::kWrite));
    return file_->Sync();
  }

 private:
  FaultFs* const fs_;
  const std::unique_ptr<WritableFile> file_;
};

class FaultReadableFile final : public ReadableFile {
 public:
  FaultReadableFile(FaultFs* fs, std::unique_ptr<ReadableFile> file)
      : fs_(fs), file_(std::move(file)) {}
  absl::StatusOr<size_t> Read(uint64_t offset,
                              absl::Span<char> out) const override {
    ++fs_->reads_;
    bool shorten = false;
    DESCANT_RETURN_IF_ERROR(fs_->Call(FaultFs::Kind::kRead, &shorten));
    return file_->Read(offset, shorten ? out.subspan(0, out.size() / 2) : out);
  }
  uint64_t size() const override { return file_->size(); }

 private:
  FaultFs* const fs_;
  const std::unique_ptr<ReadableFile> file_;
};

absl::Status FaultFs::Call(Kind kind, bool* shorten) {
  const bool chosen = calls_++ == fail_at_;
  if (kind == Kind::kWrite && !refusal_.ok()) return refusal_;
  if (!chosen) return absl::OkStatus();
  if (!short_count_) return failure_;
  if (shorten != nullptr) *shorten = true;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFs::Create(
    const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  DESCANT_ASSIGN_OR_RETURN(auto file, behind_->Create(path));
  return std::make_unique<FaultWritableFile>(this, std::move(file));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFs::OpenAppend(
    const std::string& path, uint64_t size) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  DESCANT_ASSIGN_OR_RETURN(auto file, behind_->OpenAppend(path, size));
  return std::make_unique<FaultWritableFile>(this, std::move(file));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> FaultFs::OpenRead(
    const std::string& path) {
  ++opens_;
  DESCANT_RETURN_IF_ERROR(Call(Kind::kRead));
  DESCANT_ASSIGN_OR_RETURN(auto file, behind_->OpenRead(path));
  return std::make_unique<FaultReadableFile>(this, std::move(file));
}

absl::Status FaultFs::Rename(const std::string& from, const std::string& to) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->Rename(from, to);
}

absl::Status FaultFs::Remove(const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->Remove(path);
}

absl::Status FaultFs::CreateDirectory(const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->CreateDirectory(path);
}

absl::Status FaultFs::RemoveDirectory(const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->RemoveDirectory(path);
}

absl::Status FaultFs::SyncDirectory(const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->SyncDirectory(path);
}

absl::StatusOr<std::vector<DirectoryEntry>> FaultFs::ListDirectory(
    const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kRead));
  return behind_->ListDirectory(path);
}

absl::StatusOr<std::unique_ptr<FileLock>> FaultFs::Lock(
    const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kWrite));
  return behind_->Lock(path);
}

absl::StatusOr<std::unique_ptr<FileLock>> FaultFs::LockShared(
    const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Call(Kind::kRead));
  return behind_->LockShared(path);
}

}  // namespace descant
