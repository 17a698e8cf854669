// Labels of an adapter version: free text of its owner.
#ifndef DESCANT_ADAPTERS_LABELS_H_
#define DESCANT_ADAPTERS_LABELS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "adapters/adapter.h"

namespace descant {

inline constexpr size_t kMaxLabels = 16;
inline constexpr size_t kMaxLabelValueBytes = 256;

// At most kMaxLabels; keys [A-Za-z0-9][A-Za-z0-9._-]{0,62} without "..",
// values at most kMaxLabelValueBytes of UTF-8 without control characters.
// INVALID_ARGUMENT LABEL_INVALID, field "labels".
absl::Status ValidateLabels(const AdapterLabels& labels);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_LABELS_H_
