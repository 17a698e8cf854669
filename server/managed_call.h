// A unary RPC that the engine ends when it has done what was asked.
#ifndef DESCANT_SERVER_MANAGED_CALL_H_
#define DESCANT_SERVER_MANAGED_CALL_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"
#include "server/audit_log.h"
#include "server/audit_trail.h"
#include "server/authorization.h"
#include "server/edge_context.h"
#include "server/errors.h"

namespace descant {

// Ends at the first of: the action's end, an error before it began, the
// client's cancellation or deadline; the action itself goes on in that last
// case. Keeps itself alive until gRPC is done with it.
class ManagedCall final : public grpc::ServerUnaryReactor,
                          public std::enable_shared_from_this<ManagedCall> {
 public:
  using Done = std::function<void(const AdapterActionResult&)>;

  // Where an operator calls: `begin` starts the action with the Done it is
  // given, or says why not. `facts` are the audit log's.
  // `fill` writes the response of an action that succeeded.
  static grpc::ServerUnaryReactor* Start(
      EdgeContext* edge, const grpc::CallbackServerContext& context,
      const char* rpc, CallFacts facts,
      const std::function<absl::Status(Done)>& begin,
      std::function<void(const AdapterActionResult&)> fill) {
    auto call = std::make_shared<ManagedCall>(edge, rpc, std::move(facts),
                                              std::move(fill));
    call->self_ = call;
    absl::Status status =
        AuthorizeOperator(*edge, context, rpc, &call->caller_);
    if (status.ok()) {
      status = begin(
          [call](const AdapterActionResult& result) { call->End(result); });
    }
    if (!status.ok()) call->End({std::move(status)});
    return call.get();
  }

  ManagedCall(EdgeContext* edge, const char* rpc, CallFacts facts,
              std::function<void(const AdapterActionResult&)> fill)
      : edge_(edge),
        rpc_(rpc),
        facts_(std::move(facts)),
        fill_(std::move(fill)) {}

  void OnCancel() override {
    End({absl::CancelledError("the call was cancelled")});
  }
  void OnDone() override { self_.reset(); }

 private:
  void End(const AdapterActionResult& result) {
    MutexLock lock(&mutex_);
    if (ended_) return;
    ended_ = true;
    if (result.status.ok()) {
      fill_(result);
    } else {
      edge_->metrics->RecordRefusal(
          rpc_, absl::StatusCodeToString(result.status.code()));
    }
    AuditCall(*edge_, caller_, rpc_, facts_, result.status);
    const bool commits = result.status.ok() && edge_->audit != nullptr &&
                         edge_->audit->fail_closed();
    if (!commits) return Finish(ToGrpcStatus(result.status));
    // The thread that calls may be the engine's: it does not wait for a disk.
    const bool posted = edge_->front_pool->TryPost([self = self_] {
      self->Finish(ToGrpcStatus(self->edge_->audit->Commit()));
    });
    if (!posted) Finish(ToGrpcStatus(PoolFull()));
  }

  EdgeContext* const edge_;
  const char* const rpc_;
  const CallFacts facts_;  // for the audit log
  Caller caller_;          // the same
  const std::function<void(const AdapterActionResult&)> fill_;
  std::shared_ptr<ManagedCall> self_;
  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace descant

#endif  // DESCANT_SERVER_MANAGED_CALL_H_
