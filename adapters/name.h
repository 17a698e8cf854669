// Adapter names and adapter ids. Names are labels: they never become paths.
#ifndef DESCANT_ADAPTERS_NAME_H_
#define DESCANT_ADAPTERS_NAME_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// [A-Za-z0-9][A-Za-z0-9._-]{0,62}, no "..", not "base", "none" or
// `model_name` (compared without case). INVALID_ARGUMENT,
// ADAPTER_NAME_INVALID or ADAPTER_NAME_RESERVED. The message never repeats
// the name.
absl::Status ValidateAdapterName(absl::string_view name,
                                 absl::string_view model_name);

// Whether `id` can be a tenant's: the grammar of names, not "base" or "none".
bool IsTenantId(absl::string_view id);

// What a client's `adapter_id` says: "name" or "name@sha256:<64 hex>", of the
// caller's own or, after "owner/", of that tenant's.
struct AdapterId {
  std::string name;
  std::string digest;  // "sha256:<hex>", or "" for the current version
  std::string owner;   // "": the caller
};

// Without an owner. INVALID_ARGUMENT, ADAPTER_ID_INVALID or
// ADAPTER_NAME_INVALID.
absl::StatusOr<AdapterId> ParseAdapterId(absl::string_view text);
// With or without one; the same errors.
absl::StatusOr<AdapterId> ParseQualifiedAdapterId(absl::string_view text);

// Whether `text` is 64 lower-case hex digits.
bool IsSha256Hex(absl::string_view text);
// Whether it is "sha256:" and 64 such digits, as every digest is.
bool IsDigest(absl::string_view text);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_NAME_H_
