#include "server/upload_header.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/labels.h"
#include "adapters/name.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

absl::Status CheckFormat(const v1::UploadAdapterHeader& header) {
  switch (header.format()) {
    case v1::ADAPTER_FORMAT_UNSPECIFIED:
    case v1::ADAPTER_FORMAT_SAFETENSORS:
      break;
    case v1::ADAPTER_FORMAT_GGUF:
      if (header.config_json().empty()) break;
      return FieldError("header.config_json",
                        "must be empty: a GGUF file says it all itself",
                        reason::kConfigInvalid);
    default:
      return FieldError("header.format", "must be safetensors or GGUF");
  }
  if (header.config_json().size() > limits::kMaxConfigBytes) {
    return FieldError(
        "header.config_json",
        absl::StrCat("longer than ", limits::kMaxConfigBytes, " bytes"),
        reason::kConfigInvalid);
  }
  return absl::OkStatus();
}

absl::Status CheckSize(const v1::UploadAdapterHeader& header,
                       uint64_t max_bytes) {
  if (header.size_bytes() == 0) {
    return FieldError("header.size_bytes", "must be set",
                      reason::kUploadSizeMissing);
  }
  if (header.size_bytes() > max_bytes) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, reason::kUploadTooLarge,
        absl::StrCat("more than the ", max_bytes, " bytes an adapter may have"),
        "header.size_bytes");
  }
  if (header.has_sha256() && !IsSha256Hex(header.sha256())) {
    return FieldError("header.sha256", "must be 64 lower-case hex digits",
                      reason::kUploadSha256Invalid);
  }
  return absl::OkStatus();
}

absl::Status CheckContinuation(const v1::UploadAdapterHeader& header) {
  if (header.has_upload_id()) {
    return ValidateUploadId(header.upload_id(), "header.upload_id");
  }
  if (header.offset() == 0) return absl::OkStatus();
  return FieldError("header.offset", "needs an upload_id",
                    reason::kUploadIdInvalid);
}

}  // namespace

absl::Status ValidateUploadId(absl::string_view upload_id,
                              absl::string_view field) {
  const bool grammar =
      std::all_of(upload_id.begin(), upload_id.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
               c == '-';
      });
  if (grammar && upload_id.size() >= limits::kMinUploadIdBytes &&
      upload_id.size() <= limits::kMaxUploadIdBytes) {
    return absl::OkStatus();
  }
  return FieldError(
      field,
      absl::StrCat("must be ", limits::kMinUploadIdBytes, " to ",
                   limits::kMaxUploadIdBytes, " letters, digits, '_' or '-'"),
      reason::kUploadIdInvalid);
}

absl::StatusOr<UploadSpec> MakeUploadSpec(const v1::UploadAdapterHeader& header,
                                          const EdgeContext& edge) {
  DESCANT_RETURN_IF_ERROR(ValidateAdapterName(header.name(), edge.facts.name));
  DESCANT_RETURN_IF_ERROR(CheckFormat(header));
  DESCANT_RETURN_IF_ERROR(CheckSize(header, edge.options.max_upload_bytes));
  DESCANT_RETURN_IF_ERROR(CheckContinuation(header));
  if (header.base_fingerprint().size() > limits::kMaxBaseFingerprintBytes) {
    return FieldError("header.base_fingerprint",
                      absl::StrCat("longer than ",
                                   limits::kMaxBaseFingerprintBytes, " bytes"));
  }
  UploadSpec spec;
  spec.labels.insert(header.labels().begin(), header.labels().end());
  DESCANT_RETURN_IF_ERROR(ValidateLabels(spec.labels));
  spec.name = header.name();
  spec.config_json = header.config_json();
  spec.declared_size = header.size_bytes();
  spec.sha256 = header.sha256();
  spec.base_fingerprint = header.base_fingerprint();
  spec.condition.replace = header.replace();
  if (header.has_expected_version()) {
    spec.condition.expected_version = header.expected_version();
  }
  if (header.format() == v1::ADAPTER_FORMAT_GGUF) {
    spec.format = AdapterFormat::kGguf;
  }
  spec.validate_only = header.validate_only();
  return spec;
}

}  // namespace descant
