#include "adapters/blob.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "adapters/error_reason.h"
#include "adapters/journal.h"
#include "runtime/base/checked_size.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/pacing.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kMagic = "DSCBLOB1";
constexpr size_t kChecked = 24;  // bytes under the checksum

absl::Status Damaged() {
  return ReasonedError(absl::StatusCode::kDataLoss, reason::kAdapterDataLoss,
                       "the adapter's stored bytes are damaged");
}

absl::Status ReadFully(const ReadableFile& file, uint64_t offset,
                       absl::Span<char> out) {
  DESCANT_ASSIGN_OR_RETURN(const size_t got, file.Read(offset, out));
  return got == out.size() ? absl::OkStatus() : Damaged();
}

// Hands the tensors to the validator, in the file's order.
absl::Status FeedTensors(const ValidatedAdapter& header, const Adapter& adapter,
                         AdapterValidator* validator) {
  const auto& tensors = header.index.tensors;
  std::vector<absl::Span<const char>> bytes(tensors.size());
  std::vector<size_t> order;
  const auto place = [&](size_t tensor, const AdapterMatrix& matrix) {
    bytes[tensor] = absl::MakeConstSpan(static_cast<const char*>(matrix.data),
                                        tensors[tensor].bytes());
    order.push_back(tensor);
  };
  for (size_t i = 0; i < header.modules.size(); ++i) {
    place(header.modules[i].tensor_a, adapter.modules[i].a);
    place(header.modules[i].tensor_b, adapter.modules[i].b);
  }
  std::sort(order.begin(), order.end(), [&tensors](size_t a, size_t b) {
    return tensors[a].begin < tensors[b].begin;
  });
  for (const size_t tensor : order) {
    Breathe();
    DESCANT_RETURN_IF_ERROR(validator->Append(bytes[tensor]));
  }
  return absl::OkStatus();
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

absl::StatusOr<std::shared_ptr<const Adapter>> Blob::ReadAdapter(
    const BaseShape* base, const AdapterLimits& limits,
    AdapterInfo* info) const {
  DESCANT_ASSIGN_OR_RETURN(
      const auto validator,
      AdapterValidator::Create(config_json_, safetensors_bytes_, base, limits,
                               /*hash_file=*/false));
  DESCANT_RETURN_IF_ERROR(FeedHeader(validator.get()));
  const ValidatedAdapter* header = validator->header();
  if (header == nullptr) return Damaged();
  DESCANT_ASSIGN_OR_RETURN(
      std::shared_ptr<const Adapter> adapter,
      BuildAdapter(*info, *header,
                   [this](uint64_t offset, absl::Span<char> out) {
                     Breathe();
                     return Read(offset, out);
                   }));
  DESCANT_RETURN_IF_ERROR(FeedTensors(*header, *adapter, validator.get()));
  DESCANT_ASSIGN_OR_RETURN(const ValidatedAdapter validated,
                           validator->Finish());
  if (validated.digest != info->digest) {
    return ReasonedError(absl::StatusCode::kDataLoss, reason::kAdapterDataLoss,
                         "the content is not what the digest says");
  }
  if (info->module_kinds == 0) DescribeModules(validated, info);
  return adapter;
}

absl::Status Blob::FeedHeader(AdapterValidator* validator) const {
  std::string bytes(
      std::min<uint64_t>(kSafetensorsPrefixBytes, safetensors_bytes_), '\0');
  DESCANT_RETURN_IF_ERROR(Read(0, absl::MakeSpan(bytes)));
  // Refuses a length that is not one.
  DESCANT_RETURN_IF_ERROR(validator->Append(bytes));
  if (bytes.size() < kSafetensorsPrefixBytes) return Damaged();
  bytes.resize(LoadLittleEndian<uint64_t>(bytes.data()));
  DESCANT_RETURN_IF_ERROR(Read(kSafetensorsPrefixBytes, absl::MakeSpan(bytes)));
  return validator->Append(bytes);
}

}  // namespace descant
