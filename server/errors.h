// absl::Status inside, grpc::Status with google.rpc details outside: the one
// place where one becomes the other.
#ifndef DESCANT_SERVER_ERRORS_H_
#define DESCANT_SERVER_ERRORS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/error_reason.h"
#include "grpcpp/support/status.h"
#include "runtime/base/clock.h"
#include "runtime/core/request.h"

namespace descant {

// Reasons (ErrorInfo.reason) of the edge. Those of adapters and their quotas
// are in adapters/error_reason.h, those of the engine QUEUE_FULL, DRAINING and
// ENGINE_STALLED.
namespace reason {
inline constexpr absl::string_view kFieldInvalid = "FIELD_INVALID";
inline constexpr absl::string_view kPromptMissing = "PROMPT_MISSING";
inline constexpr absl::string_view kPromptEmpty = "PROMPT_EMPTY";
inline constexpr absl::string_view kPromptTooLong = "PROMPT_TOO_LONG";
inline constexpr absl::string_view kContextExceeded = "CONTEXT_EXCEEDED";
inline constexpr absl::string_view kNotUtf8 = "NOT_UTF8";
inline constexpr absl::string_view kTokenOutOfRange = "TOKEN_OUT_OF_RANGE";
inline constexpr absl::string_view kChatTemplate = "CHAT_TEMPLATE";
// Also "CHAT_TEMPLATE_RENDER", of runtime/tokenizer/chat_template.h.
inline constexpr absl::string_view kQueueFull = "QUEUE_FULL";
inline constexpr absl::string_view kMemoryFull = "MEMORY_FULL";
inline constexpr absl::string_view kRequestTooLarge = "REQUEST_TOO_LARGE";
inline constexpr absl::string_view kDeadlineUnreachable =
    "DEADLINE_UNREACHABLE";
inline constexpr absl::string_view kDraining = "DRAINING";
inline constexpr absl::string_view kEngineStalled = "ENGINE_STALLED";
inline constexpr absl::string_view kStreamStalled = "STREAM_STALLED";
inline constexpr absl::string_view kUploadIdle = "UPLOAD_IDLE";
inline constexpr absl::string_view kUploadProtocol = "UPLOAD_PROTOCOL";
inline constexpr absl::string_view kWatchFellBehind = "WATCH_FELL_BEHIND";
inline constexpr absl::string_view kWatchLimit = "WATCH_LIMIT";
inline constexpr absl::string_view kVerifyBusy = "VERIFY_BUSY";
// Uploads with an upload_id: server/UPLOADS.md.
inline constexpr absl::string_view kUploadIdInvalid = "UPLOAD_ID_INVALID";
inline constexpr absl::string_view kUploadUnknown = "UPLOAD_UNKNOWN";
inline constexpr absl::string_view kUploadMismatch = "UPLOAD_MISMATCH";
inline constexpr absl::string_view kUploadOffset = "UPLOAD_OFFSET";
inline constexpr absl::string_view kUploadBusy = "UPLOAD_BUSY";
inline constexpr absl::string_view kUploadTakenOver = "UPLOAD_TAKEN_OVER";
inline constexpr absl::string_view kDownloadLimit = "DOWNLOAD_LIMIT";
inline constexpr absl::string_view kUnauthenticated = "UNAUTHENTICATED";
inline constexpr absl::string_view kRoleMissing = "ROLE_MISSING";
inline constexpr absl::string_view kTenantsOff = "TENANTS_OFF";
inline constexpr absl::string_view kAuditUnavailable = "AUDIT_UNAVAILABLE";
// A tenant's own limits: server/TENANTS.md.
inline constexpr absl::string_view kTenantRequestLimit = "TENANT_REQUEST_LIMIT";
inline constexpr absl::string_view kTenantTokenLimit = "TENANT_TOKEN_LIMIT";
inline constexpr absl::string_view kTenantSequenceLimit =
    "TENANT_SEQUENCE_LIMIT";
inline constexpr absl::string_view kTenantQueueLimit = "TENANT_QUEUE_LIMIT";
inline constexpr absl::string_view kTenantMemoryLimit = "TENANT_MEMORY_LIMIT";
inline constexpr absl::string_view kAdapterNumeric = "ADAPTER_NUMERIC";
}  // namespace reason

// What a status can't know of the call it ends.
struct CallFacts {
  std::string adapter_id;  // as validated: for ResourceInfo
  RequestId request_id = 0;
  // For the audit log alone.
  std::string audit_event;  // "": what the RPC's is
  std::string digest;
  uint64_t size_bytes = 0;
};

// Always an ErrorInfo (domain "descant"); BadRequest where the status names a
// field; ResourceInfo for NOT_FOUND and ALREADY_EXISTS; RetryInfo for
// UNAVAILABLE; QuotaFailure for a quota; RequestInfo for INTERNAL. The text of
// an INTERNAL error is logged and not told.
grpc::Status ToGrpcStatus(const absl::Status& status,
                          const CallFacts& facts = {});

// INVALID_ARGUMENT about one field of a request.
absl::Status FieldError(absl::string_view field, absl::string_view message,
                        absl::string_view reason = reason::kFieldInvalid);

// `status`, which is UNAVAILABLE or a quota's, with the time after which the
// client may try again.
absl::Status WithRetryDelay(absl::Status status, Duration delay);

// What is wrong with a request, for one refusal that says all of it (the first
// limits::kMaxViolations).
class Violations {
 public:
  // OK is ignored.
  void Add(const absl::Status& status);
  // OK where nothing was added. Code, reason and field are the first's;
  // ToGrpcStatus makes one BadRequest.FieldViolation of each.
  absl::Status Result() const;

 private:
  absl::Status first_;
  std::string message_;
  std::string fields_;  // encoded: see errors.cc
  size_t count_ = 0;
};

}  // namespace descant

#endif  // DESCANT_SERVER_ERRORS_H_
