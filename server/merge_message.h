// Hot merge as messages.
#ifndef DESCANT_SERVER_MERGE_MESSAGE_H_
#define DESCANT_SERVER_MERGE_MESSAGE_H_

#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "descant/v1/admin.pb.h"
#include "runtime/engine.h"

namespace descant {

// FIELD_INVALID for anything but AUTO, PINNED and FORBIDDEN.
absl::StatusOr<MergeMode> MergeModeOf(v1::MergeMode mode);

void DescribeMerges(const MergeReport& report,
                    v1::ListMergesResponse* response);

// What the report says of one adapter. Where it says nothing of it, hot merge
// does nothing with it.
void DescribeMerge(const MergeReport& report, const Adapter& adapter,
                   v1::MergeStatus* message);

}  // namespace descant

#endif  // DESCANT_SERVER_MERGE_MESSAGE_H_
