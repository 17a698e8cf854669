// Reasons (ErrorInfo.reason) of adapter errors, one list. Reasons of malformed
// containers are in adapters/formats/format_reason.h.
#ifndef DESCANT_ADAPTERS_ERROR_REASON_H_
#define DESCANT_ADAPTERS_ERROR_REASON_H_

#include "absl/strings/string_view.h"
#include "adapters/formats/format_reason.h"

namespace descant::reason {

// Names and look-ups.
inline constexpr absl::string_view kAdapterNameInvalid = "ADAPTER_NAME_INVALID";
inline constexpr absl::string_view kAdapterNameReserved =
    "ADAPTER_NAME_RESERVED";
inline constexpr absl::string_view kAdapterIdInvalid = "ADAPTER_ID_INVALID";
inline constexpr absl::string_view kAdapterNotFound = "ADAPTER_NOT_FOUND";
inline constexpr absl::string_view kAdapterExists = "ADAPTER_EXISTS";
inline constexpr absl::string_view kAdapterVersionMismatch =
    "ADAPTER_VERSION_MISMATCH";
inline constexpr absl::string_view kLabelInvalid = "LABEL_INVALID";
inline constexpr absl::string_view kSharingInvalid = "SHARING_INVALID";
inline constexpr absl::string_view kPageTokenInvalid = "PAGE_TOKEN_INVALID";
inline constexpr absl::string_view kPageSizeInvalid = "PAGE_SIZE_INVALID";

// Upload.
inline constexpr absl::string_view kUploadSizeMissing = "UPLOAD_SIZE_MISSING";
inline constexpr absl::string_view kUploadTooLarge = "UPLOAD_TOO_LARGE";
inline constexpr absl::string_view kUploadTruncated = "UPLOAD_TRUNCATED";
inline constexpr absl::string_view kUploadOverrun = "UPLOAD_OVERRUN";
inline constexpr absl::string_view kUploadSha256Invalid =
    "UPLOAD_SHA256_INVALID";
inline constexpr absl::string_view kUploadSha256Mismatch =
    "UPLOAD_SHA256_MISMATCH";
inline constexpr absl::string_view kUploadFormat = "UPLOAD_FORMAT";
// Quotas: open uploads and staged bytes; adapters; bytes.
inline constexpr absl::string_view kUploadLimit = "UPLOAD_LIMIT";
inline constexpr absl::string_view kAdapterQuota = "ADAPTER_QUOTA";
inline constexpr absl::string_view kStoreQuota = "STORE_QUOTA";

// adapter_config.json.
inline constexpr absl::string_view kConfigInvalid = "ADAPTER_CONFIG_INVALID";
inline constexpr absl::string_view kConfigUnknownKey =
    "ADAPTER_CONFIG_UNKNOWN_KEY";
inline constexpr absl::string_view kFeatureUnsupported =
    "PEFT_FEATURE_UNSUPPORTED";
inline constexpr absl::string_view kConfigPattern = "ADAPTER_CONFIG_PATTERN";
inline constexpr absl::string_view kAdapterRank = "ADAPTER_RANK";
inline constexpr absl::string_view kAdapterScale = "ADAPTER_SCALE";

// The tensors against the config and the base model.
inline constexpr absl::string_view kAdapterTensorName = "ADAPTER_TENSOR_NAME";
inline constexpr absl::string_view kAdapterModuleUnknown =
    "ADAPTER_MODULE_UNKNOWN";
inline constexpr absl::string_view kAdapterModuleUntargeted =
    "ADAPTER_MODULE_UNTARGETED";
inline constexpr absl::string_view kAdapterModuleMissing =
    "ADAPTER_MODULE_MISSING";
inline constexpr absl::string_view kAdapterNoModules = "ADAPTER_NO_MODULES";
inline constexpr absl::string_view kAdapterTensorUnpaired =
    "ADAPTER_TENSOR_UNPAIRED";
inline constexpr absl::string_view kAdapterShape = "ADAPTER_SHAPE";
inline constexpr absl::string_view kAdapterValue = "ADAPTER_VALUE";
inline constexpr absl::string_view kBaseMismatch = "BASE_MISMATCH";

// Store.
inline constexpr absl::string_view kStoreFull = "STORE_FULL";
inline constexpr absl::string_view kStoreReadOnly = "STORE_READ_ONLY";
inline constexpr absl::string_view kStoreCorrupt = "STORE_CORRUPT";
inline constexpr absl::string_view kStoreFormatNewer = "STORE_FORMAT_NEWER";
inline constexpr absl::string_view kStoreLocked = "STORE_LOCKED";
inline constexpr absl::string_view kAdapterIncompatible =
    "ADAPTER_INCOMPATIBLE";
inline constexpr absl::string_view kAdapterDataLoss = "ADAPTER_DATA_LOSS";
inline constexpr absl::string_view kAdapterUnreadable = "ADAPTER_UNREADABLE";

// Residency.
inline constexpr absl::string_view kAdapterPinsFull = "ADAPTER_PINS_FULL";
inline constexpr absl::string_view kAdapterActionEnded = "ADAPTER_ACTION_ENDED";
inline constexpr absl::string_view kHostTierOff = "HOST_TIER_OFF";
inline constexpr absl::string_view kHostTierFull = "HOST_TIER_FULL";

// Hot merge.
inline constexpr absl::string_view kHotMergeOff = "HOT_MERGE_OFF";
inline constexpr absl::string_view kMergeUnsupported = "MERGE_UNSUPPORTED";
inline constexpr absl::string_view kMergeMemoryFull = "MERGE_MEMORY_FULL";

}  // namespace descant::reason

#endif  // DESCANT_ADAPTERS_ERROR_REASON_H_
