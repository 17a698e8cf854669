// Reasons (ErrorInfo.reason) of malformed files, one per violated rule.
#ifndef DESCANT_ADAPTERS_FORMATS_FORMAT_REASON_H_
#define DESCANT_ADAPTERS_FORMATS_FORMAT_REASON_H_

#include "absl/strings/string_view.h"

namespace descant::reason {

inline constexpr absl::string_view kJsonInvalid = "JSON_INVALID";
inline constexpr absl::string_view kJsonTooLarge = "JSON_TOO_LARGE";
inline constexpr absl::string_view kJsonTooDeep = "JSON_TOO_DEEP";
inline constexpr absl::string_view kJsonDuplicateKey = "JSON_DUPLICATE_KEY";

inline constexpr absl::string_view kSafetensorsTooSmall =
    "SAFETENSORS_TOO_SMALL";
inline constexpr absl::string_view kSafetensorsHeaderLength =
    "SAFETENSORS_HEADER_LENGTH";
inline constexpr absl::string_view kSafetensorsHeaderInvalid =
    "SAFETENSORS_HEADER_INVALID";
inline constexpr absl::string_view kSafetensorsDuplicateKey =
    "SAFETENSORS_DUPLICATE_KEY";
inline constexpr absl::string_view kSafetensorsTensorCount =
    "SAFETENSORS_TENSOR_COUNT";
inline constexpr absl::string_view kSafetensorsTensorName =
    "SAFETENSORS_TENSOR_NAME";
inline constexpr absl::string_view kSafetensorsDtype = "SAFETENSORS_DTYPE";
inline constexpr absl::string_view kSafetensorsShape = "SAFETENSORS_SHAPE";
inline constexpr absl::string_view kSafetensorsOffsets = "SAFETENSORS_OFFSETS";
inline constexpr absl::string_view kSafetensorsLayout = "SAFETENSORS_LAYOUT";
inline constexpr absl::string_view kSafetensorsSizeMismatch =
    "SAFETENSORS_SIZE_MISMATCH";
inline constexpr absl::string_view kSafetensorsMetadata =
    "SAFETENSORS_METADATA";

inline constexpr absl::string_view kGgufInvalid = "GGUF_INVALID";
// Of GGUF files that a client sent (adapters/gguf_lora.h).
inline constexpr absl::string_view kGgufCount = "GGUF_COUNT";
inline constexpr absl::string_view kGgufHeaderLength = "GGUF_HEADER_LENGTH";
inline constexpr absl::string_view kGgufLayout = "GGUF_LAYOUT";
inline constexpr absl::string_view kGgufDtype = "GGUF_DTYPE";
inline constexpr absl::string_view kGgufNotLora = "GGUF_NOT_LORA";
inline constexpr absl::string_view kGgufArchitecture = "GGUF_ARCHITECTURE";

}  // namespace descant::reason

#endif  // DESCANT_ADAPTERS_FORMATS_FORMAT_REASON_H_
