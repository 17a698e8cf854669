#include "server/audit_trail.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "runtime/base/reason.h"
#include "server/audit_log.h"

namespace descant {
namespace {

struct AuditedRpc {
  absl::string_view rpc;
  const char* event;
};

constexpr AuditedRpc kAudited[] = {
    {"UploadAdapter", "upload"},     {"DeleteAdapter", "delete"},
    {"RollbackAdapter", "rollback"}, {"ShareAdapter", "share"},
    {"GetStats", "admin"},           {"LoadAdapter", "admin"},
    {"UnloadAdapter", "admin"},      {"PinAdapter", "admin"},
    {"VerifyStore", "admin"},        {"ListMerges", "admin"},
    {"SetMergeMode", "admin"},
};

const AuditedRpc* Find(absl::string_view rpc) {
  const auto* const found = std::find_if(
      std::begin(kAudited), std::end(kAudited),
      [rpc](const AuditedRpc& audited) { return audited.rpc == rpc; });
  return found == std::end(kAudited) ? nullptr : found;
}

AuditEvent EventOf(absl::string_view rpc, const Identity& identity,
                   std::string peer) {
  AuditEvent event;
  event.identity = identity;
  event.peer = std::move(peer);
  event.rpc = std::string(rpc);
  return event;
}

}  // namespace

bool IsAudited(absl::string_view rpc) { return Find(rpc) != nullptr; }

absl::Status CheckAuditable(const EdgeContext& edge, absl::string_view rpc) {
  if (edge.audit == nullptr || !IsAudited(rpc)) return absl::OkStatus();
  return edge.audit->CheckWritable();
}

void AuditFailure(const EdgeContext& edge,
                  const grpc::CallbackServerContext& context,
                  absl::string_view rpc, const Identity& identity,
                  const absl::Status& why) {
  if (edge.audit == nullptr) return;
  AuditEvent event = EventOf(rpc, identity, context.peer());
  event.event = "auth_failure";
  event.code = why.code();
  event.reason = std::string(why.message());
  edge.audit->RecordFailure(event);
}

void AuditCall(const EdgeContext& edge, const Caller& caller,
               absl::string_view rpc, const CallFacts& facts,
               const absl::Status& result) {
  const AuditedRpc* const audited = Find(rpc);
  if (edge.audit == nullptr || audited == nullptr) return;
  // AuditFailure told of these already, at its rate.
  if (absl::IsUnauthenticated(result) || absl::IsPermissionDenied(result)) {
    return;
  }
  AuditEvent event = EventOf(rpc, caller.identity, caller.peer);
  event.event = facts.audit_event.empty() ? audited->event : facts.audit_event;
  event.code = result.code();
  event.reason = ReasonOf(result);
  event.name = facts.adapter_id;
  event.digest = facts.digest;
  event.size = facts.size_bytes;
  edge.audit->Record(event);
}

absl::Status AuditAndCommit(const EdgeContext& edge, const Caller& caller,
                            absl::string_view rpc, const CallFacts& facts,
                            const absl::Status& result) {
  AuditCall(edge, caller, rpc, facts, result);
  if (edge.audit == nullptr || !IsAudited(rpc) || !result.ok()) return result;
  return edge.audit->Commit();
}

}  // namespace descant
