// One upload: its bytes are validated while they are staged.
#include <utility>

#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/store.h"
#include "adapters/store_error.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {

AdapterUpload::~AdapterUpload() { End(); }

void AdapterUpload::End() {
  if (file_ != nullptr) {
    file_.reset();
    store_->fs_->Remove(staging_path_).IgnoreError();
  }
  if (reserved_ == StoreUsage()) return;
  store_->Release(spec_.tenant, std::exchange(reserved_, {}));
}

absl::Status AdapterUpload::BeginPair(absl::string_view config_json,
                                      uint64_t safetensors_bytes) {
  pair_bytes_ = safetensors_bytes;
  if (validator_ == nullptr) {
    DESCANT_ASSIGN_OR_RETURN(
        validator_, AdapterValidator::Create(config_json, safetensors_bytes,
                                             store_->base_.get(), limits_));
  }
  if (spec_.validate_only) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<WritableFile>> file =
      store_->fs_->Create(staging_path_);
  if (!file.ok()) return StoreWriteError(file.status());
  file_ = *std::move(file);
  const std::string prefix = EncodeBlobPrefix(config_json, safetensors_bytes);
  const absl::Status written =
      file_->Append(absl::MakeConstSpan(prefix.data(), prefix.size()));
  return written.ok() ? written : StoreWriteError(written);
}

absl::Status AdapterUpload::AppendPair(absl::Span<const char> chunk) {
  DESCANT_RETURN_IF_ERROR(validator_->Append(chunk));
  if (file_ == nullptr) return absl::OkStatus();
  const absl::Status written = file_->Append(chunk);
  return written.ok() ? written : StoreWriteError(written);
}

absl::Status AdapterUpload::AppendGguf(absl::Span<const char> chunk) {
  std::string pair;
  DESCANT_RETURN_IF_ERROR(gguf_->Append(chunk, &pair));
  gguf_hash_->Update(chunk);
  if (validator_ == nullptr && gguf_->header_done()) {
    const uint64_t pair_bytes = gguf_->safetensors_bytes();
    DESCANT_RETURN_IF_ERROR(store_->ReservePair(this, pair_bytes));
    DESCANT_RETURN_IF_ERROR(BeginPair(gguf_->config_json(), pair_bytes));
  }
  return pair.empty() ? absl::OkStatus() : AppendPair(pair);
}

absl::Status AdapterUpload::Append(absl::Span<const char> chunk) {
  DESCANT_RETURN_IF_ERROR(status_);
  status_ = gguf_ != nullptr ? AppendGguf(chunk) : AppendPair(chunk);
  if (status_.ok()) {
    received_ += chunk.size();
  } else {
    End();
  }
  return status_;
}

absl::StatusOr<PublishResult> AdapterUpload::Commit() {
  DESCANT_RETURN_IF_ERROR(status_);
  status_ = absl::FailedPreconditionError("the upload has ended");
  absl::StatusOr<PublishResult> result = Publish();
  End();
  return result;
}

absl::StatusOr<PublishResult> AdapterUpload::Publish() {
  // Refuses a file that ends before there is a pair.
  if (gguf_ != nullptr) DESCANT_RETURN_IF_ERROR(gguf_->Finish());
  DESCANT_ASSIGN_OR_RETURN(const ValidatedAdapter validated,
                           validator_->Finish());
  const std::string sha256 =
      gguf_ != nullptr ? HexOf(gguf_hash_->Finish()) : validated.file_sha256;
  if (!spec_.sha256.empty() && spec_.sha256 != sha256) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kUploadSha256Mismatch,
                         "sha256 does not match the bytes", "sha256");
  }
  return store_->Publish(this, validated);
}

}  // namespace descant
