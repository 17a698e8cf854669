// AdminService.GetStats.
#ifndef DESCANT_SERVER_STATS_CALL_H_
#define DESCANT_SERVER_STATS_CALL_H_

#include <memory>

#include "descant/v1/admin.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"
#include "server/edge_context.h"
#include "server/egress.h"

namespace descant {

// Waits for the engine's next step, to tell who does what after it. An engine
// that doesn't come to one within kPatience is stuck or has a step that long:
// the answer then tells what there was after the last one, and of tenants only
// what they have had. Keeps itself alive until gRPC is done with it.
class StatsCall final : public grpc::ServerUnaryReactor,
                        public Egress::Call,
                        public std::enable_shared_from_this<StatsCall> {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(1);

  // `ready_since`: when the server was ready. `response` lives until the call
  // is done.
  static grpc::ServerUnaryReactor* Start(
      EdgeContext* edge, const grpc::CallbackServerContext& context,
      MonotonicTime ready_since, v1::GetStatsResponse* response);

  StatsCall(EdgeContext* edge, MonotonicTime ready_since,
            v1::GetStatsResponse* response)
      : edge_(edge),
        ready_since_(ready_since),
        begin_(edge->clock->Now()),
        response_(response) {}

  void OnCancel() override;
  void OnDone() override { self_.reset(); }
  void Flush() override {}
  void Sweep(MonotonicTime now) override;

 private:
  void Answer(const EngineActivity& activity);
  void End(const absl::Status& status);

  EdgeContext* const edge_;
  const MonotonicTime ready_since_;
  const MonotonicTime begin_;
  v1::GetStatsResponse* const response_;
  std::shared_ptr<StatsCall> self_;
  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// `seconds` are not negative.
void SetSeconds(double seconds, google::protobuf::Duration* to);

}  // namespace descant

#endif  // DESCANT_SERVER_STATS_CALL_H_
