// What the edge tells the audit log. Without one all of these do nothing.
#ifndef DESCANT_SERVER_AUDIT_TRAIL_H_
#define DESCANT_SERVER_AUDIT_TRAIL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "server/edge_context.h"
#include "server/errors.h"
#include "server/tenants.h"

namespace descant {

// Who makes a call.
struct Caller {
  Identity identity;
  std::string peer;  // its address; "" where nobody asks for it
};

// Whether the log tells of this RPC: those that change adapters or shares, and
// all of AdminService.
bool IsAudited(absl::string_view rpc);

// UNAVAILABLE where the RPC is to be audited, --audit-fail-closed is on and the
// log can't be written.
absl::Status CheckAuditable(const EdgeContext& edge, absl::string_view rpc);

// A caller was turned away: UNAUTHENTICATED with why, or PERMISSION_DENIED.
void AuditFailure(const EdgeContext& edge,
                  const grpc::CallbackServerContext& context,
                  absl::string_view rpc, const Identity& identity,
                  const absl::Status& why);

// A call ended with `result`. Nothing where IsAudited is false.
void AuditCall(const EdgeContext& edge, const Caller& caller,
               absl::string_view rpc, const CallFacts& facts,
               const absl::Status& result);

// The same, and returns what is to be answered: `result`, or UNAVAILABLE where
// --audit-fail-closed is on and the line is not on the disk. May wait for it.
absl::Status AuditAndCommit(const EdgeContext& edge, const Caller& caller,
                            absl::string_view rpc, const CallFacts& facts,
                            const absl::Status& result);

}  // namespace descant

#endif  // DESCANT_SERVER_AUDIT_TRAIL_H_
