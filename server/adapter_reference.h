// What a caller's adapter_id may mean.
#ifndef DESCANT_SERVER_ADAPTER_REFERENCE_H_
#define DESCANT_SERVER_ADAPTER_REFERENCE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/name.h"
#include "adapters/registry.h"
#include "server/edge_context.h"
#include "server/errors.h"

namespace descant {

// To use or to see: `owner/name` too where tenants are on. INVALID_ARGUMENT.
absl::StatusOr<AdapterId> ParseUsedAdapter(const EdgeContext& edge,
                                           absl::string_view adapter_id);

// To change or to download: the caller's own; the result has no owner. With
// another owner it is NOT_FOUND, shared or not. INVALID_ARGUMENT. Notes a valid
// id in `facts`.
absl::StatusOr<AdapterId> ParseOwnAdapter(const EdgeContext& edge,
                                          absl::string_view tenant,
                                          const std::string& adapter_id,
                                          CallFacts* facts);

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_REFERENCE_H_
