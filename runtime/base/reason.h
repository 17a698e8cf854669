// A machine-readable reason (and the field it is about) on an absl::Status,
// carried as a payload so that the edge can turn it into
// google.rpc.ErrorInfo. Codes follow the project's error table; reasons of
// adapters are listed in adapters/error_reason.h.
#ifndef DESCANT_RUNTIME_BASE_REASON_H_
#define DESCANT_RUNTIME_BASE_REASON_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace descant {

// REQUIRES: code is not kOk. `reason` is UPPER_SNAKE_CASE; `field` names the
// client's field or file part ("adapter_config.r"), empty when there is none.
// `message` must not contain paths, pointers or other tenants' names.
absl::Status ReasonedError(absl::StatusCode code, absl::string_view reason,
                           absl::string_view message,
                           absl::string_view field = "");

// "" where the status carries none.
std::string ReasonOf(const absl::Status& status);
std::string FieldOf(const absl::Status& status);

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_REASON_H_
