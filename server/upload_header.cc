#include "server/upload_header.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

constexpr char kLabelsField[] = "header.labels";

absl::Status LabelError(absl::string_view message) {
  return FieldError(kLabelsField, message, reason::kLabelInvalid);
}

// The code point that `*text` begins with, which is taken off it; -1 where it
// begins with no valid one.
int32_t NextCodePoint(absl::string_view* text) {
  const auto byte = [&](size_t i) {
    return i < text->size() ? static_cast<uint8_t>((*text)[i]) : 0;
  };
  const uint8_t lead = byte(0);
  const size_t length = lead < 0x80                    ? 1
                        : lead >= 0xc2 && lead <= 0xdf ? 2
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                       : 0;
  if (length == 0) return -1;
  int32_t code = length == 1 ? lead : lead & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return -1;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool overlong =
      (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (overlong || surrogate || code > 0x10ffff) return -1;
  text->remove_prefix(length);
  return code;
}

bool IsPrintable(int32_t code) {
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return false;  // controls
  if (code == 0x2028 || code == 0x2029) return false;  // line separators
  // Marks and embeddings that reorder the text around them.
  if (code == 0x061c || code == 0x200e || code == 0x200f) return false;
  if (code >= 0x202a && code <= 0x202e) return false;
  if (code >= 0x2066 && code <= 0x2069) return false;
  if (code == 0xfeff || (code >= 0xfff0 && code <= 0xfffb)) return false;
  if (code >= 0xe0000 && code <= 0xe007f) return false;  // invisible tags
  return (code & 0xfffe) != 0xfffe;                      // no character
}

bool IsLabelKey(absl::string_view key) {
  if (key.empty() || key.size() > limits::kMaxLabelKeyBytes) return false;
  const bool characters = std::all_of(key.begin(), key.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
           c == '_' || c == '-';
  });
  return characters &&
         absl::ascii_isalnum(static_cast<unsigned char>(key[0])) &&
         !absl::StrContains(key, "..");
}

absl::Status CheckLabels(const v1::UploadAdapterHeader& header) {
  if (static_cast<size_t>(header.labels_size()) > limits::kMaxLabels) {
    return LabelError(absl::StrCat("more than ", limits::kMaxLabels));
  }
  for (const auto& [key, value] : header.labels()) {
    DESCANT_RETURN_IF_ERROR(ValidateLabel(key, value));
  }
  return absl::OkStatus();
}

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

absl::Status ValidateLabel(absl::string_view key, absl::string_view value) {
  if (!IsLabelKey(key)) {
    return LabelError("a key must follow the grammar of adapter names");
  }
  if (value.size() > limits::kMaxLabelValueBytes) {
    return LabelError(absl::StrCat("a value is longer than ",
                                   limits::kMaxLabelValueBytes, " bytes"));
  }
  while (!value.empty()) {
    const int32_t code = NextCodePoint(&value);
    if (code < 0 || !IsPrintable(code)) {
      return LabelError("a value must be printable UTF-8");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<UploadSpec> MakeUploadSpec(const v1::UploadAdapterHeader& header,
                                          const EdgeContext& edge) {
  DESCANT_RETURN_IF_ERROR(ValidateAdapterName(header.name(), edge.facts.name));
  DESCANT_RETURN_IF_ERROR(CheckFormat(header));
  DESCANT_RETURN_IF_ERROR(CheckSize(header, edge.options.max_upload_bytes));
  DESCANT_RETURN_IF_ERROR(CheckContinuation(header));
  DESCANT_RETURN_IF_ERROR(CheckLabels(header));
  if (header.base_fingerprint().size() > limits::kMaxBaseFingerprintBytes) {
    return FieldError("header.base_fingerprint",
                      absl::StrCat("longer than ",
                                   limits::kMaxBaseFingerprintBytes, " bytes"));
  }
  UploadSpec spec;
  spec.name = header.name();
  spec.config_json = header.config_json();
  spec.declared_size = header.size_bytes();
  spec.sha256 = header.sha256();
  spec.base_fingerprint = header.base_fingerprint();
  spec.condition.replace = header.replace();
  return spec;
}

}  // namespace descant
