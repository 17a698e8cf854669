// A short unary RPC whose work runs on a pool.
#ifndef DESCANT_SERVER_POOLED_CALL_H_
#define DESCANT_SERVER_POOLED_CALL_H_

#include <utility>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "server/edge_context.h"
#include "server/errors.h"

namespace descant {

// Runs `work` (returning absl::Status) on the front pool and ends the call
// with its status. Request and response live until then.
template <typename Work>
grpc::ServerUnaryReactor* RunPooled(EdgeContext* edge, const char* rpc,
                                    grpc::CallbackServerContext* context,
                                    Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [edge, rpc, reactor](const absl::Status& status,
                                           const CallFacts& facts) {
    if (!status.ok()) {
      edge->metrics->RecordRefusal(rpc,
                                   absl::StatusCodeToString(status.code()));
    }
    reactor->Finish(ToGrpcStatus(status, facts));
  };
  const bool posted = edge->front_pool->TryPost(
      [context, finish, work = std::move(work)]() mutable {
        CallFacts facts;
        if (context->IsCancelled()) {
          return finish(absl::CancelledError("cancelled"), facts);
        }
        const absl::Status status = work(&facts);
        finish(status, facts);
      });
  if (!posted) finish(PoolFull(), {});
  return reactor;
}

}  // namespace descant

#endif  // DESCANT_SERVER_POOLED_CALL_H_
