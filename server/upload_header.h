// What a client says of the adapter it is about to send.
#ifndef DESCANT_SERVER_UPLOAD_HEADER_H_
#define DESCANT_SERVER_UPLOAD_HEADER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/store.h"
#include "descant/v1/adapter.pb.h"
#include "server/edge_context.h"

namespace descant {

// Everything about `header` that needs neither store nor table. The tenant is
// left to the caller.
absl::StatusOr<UploadSpec> MakeUploadSpec(const v1::UploadAdapterHeader& header,
                                          const EdgeContext& edge);

// [A-Za-z0-9_-]{8,64}: INVALID_ARGUMENT UPLOAD_ID_INVALID.
absl::Status ValidateUploadId(absl::string_view upload_id,
                              absl::string_view field);

}  // namespace descant

#endif  // DESCANT_SERVER_UPLOAD_HEADER_H_
