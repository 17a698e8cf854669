#include "adapters/blob.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "adapters/error_reason.h"
#include "adapters/journal.h"
#include "runtime/base/checked_size.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kMagic = "DSCBLOB1";
constexpr size_t kChecked = 24;  // bytes under the checksum
constexpr size_t kChunk = 256 << 10;

absl::Status Damaged() {
  return ReasonedError(absl::StatusCode::kDataLoss, reason::kAdapterDataLoss,
                       "the adapter's stored bytes are damaged");
}

absl::Status ReadFully(const ReadableFile& file, uint64_t offset,
                       absl::Span<char> out) {
  DESCANT_ASSIGN_OR_RETURN(const size_t got, file.Read(offset, out));
  return got == out.size() ? absl::OkStatus() : Damaged();
}

}  // namespace

std::string EncodeBlobPrefix(absl::string_view config_json,
                             uint64_t safetensors_bytes) {
  std::string bytes(kMagic);
  AppendLittleEndian<uint64_t>(config_json.size(), &bytes);
  AppendLittleEndian<uint64_t>(safetensors_bytes, &bytes);
  AppendLittleEndian<uint32_t>(Crc32c(bytes), &bytes);
  AppendLittleEndian<uint32_t>(0, &bytes);
  bytes.append(config_json.data(), config_json.size());
  return bytes;
}

absl::StatusOr<Blob> Blob::Open(Fs* fs, const std::string& path) {
  Blob blob;
  DESCANT_ASSIGN_OR_RETURN(blob.file_, fs->OpenRead(path));
  std::string header(kBlobHeaderBytes, '\0');
  DESCANT_RETURN_IF_ERROR(ReadFully(*blob.file_, 0, absl::MakeSpan(header)));
  const absl::string_view checked =
      absl::string_view(header).substr(0, kChecked);
  const auto config_bytes = LoadLittleEndian<uint64_t>(header.data() + 8);
  blob.safetensors_bytes_ = LoadLittleEndian<uint64_t>(header.data() + 16);
  const CheckedSize total = CheckedSize(kBlobHeaderBytes) +
                            CheckedSize(config_bytes) +
                            CheckedSize(blob.safetensors_bytes_);
  if (checked.substr(0, kMagic.size()) != kMagic ||
      LoadLittleEndian<uint32_t>(header.data() + kChecked) != Crc32c(checked) ||
      config_bytes > kMaxConfigBytes ||
      total.value() != std::optional<uint64_t>(blob.file_->size())) {
    return Damaged();
  }
  blob.config_json_.resize(config_bytes);
  DESCANT_RETURN_IF_ERROR(ReadFully(*blob.file_, kBlobHeaderBytes,
                                    absl::MakeSpan(blob.config_json_)));
  return blob;
}

absl::Status Blob::Read(uint64_t offset, absl::Span<char> out) const {
  return ReadFully(*file_, kBlobHeaderBytes + config_json_.size() + offset,
                   out);
}

absl::StatusOr<ValidatedAdapter> Blob::Validate(
    const BaseShape* base, const AdapterLimits& limits) const {
  DESCANT_ASSIGN_OR_RETURN(
      const auto validator,
      AdapterValidator::Create(config_json_, safetensors_bytes_, base, limits));
  std::vector<char> chunk(std::min<uint64_t>(kChunk, safetensors_bytes_));
  for (uint64_t offset = 0; offset < safetensors_bytes_;) {
    const uint64_t length =
        std::min<uint64_t>(chunk.size(), safetensors_bytes_ - offset);
    const absl::Span<char> piece = absl::MakeSpan(chunk.data(), length);
    DESCANT_RETURN_IF_ERROR(Read(offset, piece));
    DESCANT_RETURN_IF_ERROR(validator->Append(piece));
    offset += length;
  }
  return validator->Finish();
}

}  // namespace descant
