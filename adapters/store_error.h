// Errors that the store's sources share.
#ifndef DESCANT_ADAPTERS_STORE_ERROR_H_
#define DESCANT_ADAPTERS_STORE_ERROR_H_

#include "absl/status/status.h"
#include "adapters/error_reason.h"
#include "runtime/base/reason.h"

namespace descant {

inline absl::Status StoreReadOnly() {
  return ReasonedError(absl::StatusCode::kFailedPrecondition,
                       reason::kStoreReadOnly,
                       "the store is read-only: nothing can be changed");
}

// What the disk's answer to a write means to a client.
inline absl::Status StoreWriteError(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) {
    return ReasonedError(absl::StatusCode::kResourceExhausted,
                         reason::kStoreFull, "the store is full");
  }
  return StoreReadOnly();
}

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_ERROR_H_
