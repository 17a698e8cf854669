// Short unary RPCs.
#ifndef DESCANT_SERVER_POOLED_CALL_H_
#define DESCANT_SERVER_POOLED_CALL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "server/audit_trail.h"
#include "server/authorization.h"
#include "server/edge_context.h"
#include "server/errors.h"
#include "server/limits.h"
#include "server/memory_budget.h"

namespace descant {

// Ends the call and counts it where it was refused.
inline void FinishUnary(EdgeContext* edge, const char* rpc,
                        grpc::ServerUnaryReactor* reactor,
                        const absl::Status& status, const CallFacts& facts) {
  if (!status.ok()) {
    edge->metrics->RecordRefusal(rpc, absl::StatusCodeToString(status.code()));
  }
  reactor->Finish(ToGrpcStatus(status, facts));
}

// Authorizes the call, runs `work` on the front pool and ends the call with
// its status. `work` is called with the tenant's id (const std::string&) and a
// CallFacts*, and returns absl::Status. Request and response live until then;
// `bytes` is what they take at most, of --request-memory.
template <typename Work>
grpc::ServerUnaryReactor* RunPooled(EdgeContext* edge, const char* rpc,
                                    grpc::CallbackServerContext* context,
                                    uint64_t bytes, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [edge, rpc, reactor](const absl::Status& status,
                                           const CallFacts& facts) {
    FinishUnary(edge, rpc, reactor, status, facts);
  };
  Caller caller;
  const absl::StatusOr<std::shared_ptr<const Tenant>> tenant =
      AuthorizeCall(*edge, *context, rpc, &caller);
  if (!tenant.ok()) {
    finish(tenant.status(), {});
    return reactor;
  }
  auto memory = edge->memory->Take((*tenant)->id, limits::kCallBytes + bytes);
  if (!memory.ok()) {
    finish(memory.status(), {});
    return reactor;
  }
  // Shared, because std::function copies what it holds.
  auto hold = std::make_shared<MemoryBudget::Hold>(*std::move(memory));
  const bool posted = edge->front_pool->TryPost(
      [edge, rpc, context, finish, hold = std::move(hold), tenant = *tenant,
       caller = std::move(caller), work = std::move(work)]() mutable {
        CallFacts facts;
        if (context->IsCancelled()) {
          return finish(absl::CancelledError("cancelled"), facts);
        }
        const absl::Status status = work(tenant->id, &facts);
        finish(AuditAndCommit(*edge, caller, rpc, facts, status), facts);
      });
  if (!posted) finish(PoolFull(), {});
  return reactor;
}

}  // namespace descant

#endif  // DESCANT_SERVER_POOLED_CALL_H_
