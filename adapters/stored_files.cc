#include "adapters/stored_files.h"

#include <algorithm>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr uint64_t kPieceBytes = 256 << 10;

}  // namespace

absl::Status StoredFiles::Judge(const absl::Status& error,
                                const std::string& tenant,
                                const StoredTensors* source) {
  if (IsPassing(error)) return AdapterUnreadable();
  if (source != nullptr && !source->damaged()) {
    LogWarning("a stored adapter is quarantined: ",
               std::string(error.message()));
    source->Quarantine(tenant);
  }
  return AdapterDataLoss();
}

absl::StatusOr<std::unique_ptr<StoredFiles>> StoredFiles::Open(
    Fs* fs, const std::string& path, const AdapterInfo& info,
    std::shared_ptr<const StoredTensors> source) {
  absl::StatusOr<Blob> blob = Blob::Open(fs, path);
  if (!blob.ok()) return Judge(blob.status(), info.tenant, source.get());
  return std::unique_ptr<StoredFiles>(
      new StoredFiles(*std::move(blob), info, std::move(source)));
}

absl::Status StoredFiles::Read(uint64_t offset, absl::Span<char> out) {
  if (const absl::Status read = blob_.Read(offset, out); !read.ok()) {
    return Judge(read, tenant_, source_.get());
  }
  if (offset != position_) return absl::OkStatus();
  position_ += out.size();
  if (const absl::Status checked = content_.Append(out); !checked.ok()) {
    return Judge(checked, tenant_, source_.get());
  }
  return absl::OkStatus();
}

absl::Status StoredFiles::Finish() {
  std::string piece;
  while (position_ < safetensors_bytes()) {
    piece.resize(std::min(kPieceBytes, safetensors_bytes() - position_));
    DESCANT_RETURN_IF_ERROR(Read(position_, absl::MakeSpan(piece)));
  }
  const absl::StatusOr<std::string> digest = content_.Finish();
  if (!digest.ok()) return Judge(digest.status(), tenant_, source_.get());
  if (*digest == digest_) return absl::OkStatus();
  return Judge(absl::DataLossError("the content is not what the digest says"),
               tenant_, source_.get());
}

}  // namespace descant
