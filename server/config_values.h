// Values of flags and YAML keys, from text.
#ifndef DESCANT_SERVER_CONFIG_VALUES_H_
#define DESCANT_SERVER_CONFIG_VALUES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"

namespace descant {

// INVALID_ARGUMENT says what was expected. `*out` is unchanged on an error.

// A whole number in [min, max].
absl::Status ParseNumber(absl::string_view text, int64_t min, int64_t max,
                         int32_t* out);
// "512MiB", "2GiB", "1000000"; at least `min`.
absl::Status ParseBytes(absl::string_view text, uint64_t min, uint64_t* out);
// "30s", "500ms", "10m", "2h"; in [min, max].
absl::Status ParseDuration(absl::string_view text, Duration min, Duration max,
                           Duration* out);
// "true" or "false".
absl::Status ParseBool(absl::string_view text, bool* out);

}  // namespace descant

#endif  // DESCANT_SERVER_CONFIG_VALUES_H_
