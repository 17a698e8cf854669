#include "server/adapter_reference.h"

#include "runtime/base/status_macros.h"

namespace descant {

absl::StatusOr<AdapterId> ParseUsedAdapter(const EdgeContext& edge,
                                           absl::string_view adapter_id) {
  return edge.tenants == nullptr ? ParseAdapterId(adapter_id)
                                 : ParseQualifiedAdapterId(adapter_id);
}

absl::StatusOr<AdapterId> ParseOwnAdapter(const EdgeContext& edge,
                                          absl::string_view tenant,
                                          const std::string& adapter_id,
                                          CallFacts* facts) {
  DESCANT_ASSIGN_OR_RETURN(AdapterId id, ParseUsedAdapter(edge, adapter_id));
  facts->adapter_id = adapter_id;
  if (!id.owner.empty() && id.owner != tenant) return AdapterNotFound();
  id.owner.clear();
  return id;
}

}  // namespace descant
