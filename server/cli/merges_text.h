// Hot merge as `descant merges` prints it.
#ifndef DESCANT_SERVER_CLI_MERGES_TEXT_H_
#define DESCANT_SERVER_CLI_MERGES_TEXT_H_

#include <string>

#include "descant/v1/admin.pb.h"
#include "server/cli/json_output.h"

namespace descant::cli {

// One line on the memory, or on why nothing is merged; then a table of the
// adapters.
std::string RenderMerges(const v1::ListMergesResponse& merges);
// A table of what happened, oldest first.
std::string RenderMergeHistory(const v1::ListMergesResponse& merges);

// Seconds are numbers; `gain` and `check` are null until there are such.
Json MergeJson(const v1::MergeStatus& status);
// {enabled, unavailable_reason, memory_used_bytes, memory_capacity_bytes,
//  adapters, history}.
Json MergesJson(const v1::ListMergesResponse& merges);

// "auto", "pinned", "forbidden".
std::string MergeModeName(v1::MergeMode mode);
// "unmerged", "building", "checking", "merged", "refused".
std::string MergeStateName(v1::MergeState state);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_MERGES_TEXT_H_
