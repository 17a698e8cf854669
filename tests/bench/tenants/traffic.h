// Streamed generations of several tenants, from one thread: open loop, closed
// loop, and readers that stop.
#ifndef DESCANT_TESTS_BENCH_TENANTS_TRAFFIC_H_
#define DESCANT_TESTS_BENCH_TENANTS_TRAFFIC_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "descant/v1/generation.grpc.pb.h"
#include "runtime/base/clock.h"

namespace descant::bench {

// One generation to send. Times in seconds.
struct PlannedCall {
  double due = 0;  // after the traffic's beginning
  int tenant = 0;
  v1::GenerateRequest request;
  double timeout = 0;  // from when it is due; 0: none
  // Messages read before the reader stops.
  int reads = std::numeric_limits<int>::max();
};

struct TokensAt {
  double at = 0;
  int tokens = 0;
};

// What became of one. Times in seconds after the traffic's beginning.
struct CallOutcome {
  int tenant = 0;
  bool ended = false;
  grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
  std::string error;  // "UNAVAILABLE QUEUE_FULL"
  double due = 0;     // latencies count from here, however late it was sent
  double sent = 0;
  double end = 0;
  std::vector<TokensAt> messages;  // those with tokens
  uint32_t cached_tokens = 0;
  double prefill = 0;  // as the server says it took
  bool ok() const { return ended && code == grpc::StatusCode::OK; }
};

// One completion queue, driven by the caller, so that the server keeps the
// machine. A connection is opened for each kCallsPerConnection calls that a
// tenant has under way: what a client leaves unread on one, and the streams
// that one may have, are nothing to the others. Thread-compatible.
class Traffic {
 public:
  static constexpr int kCallsPerConnection = 50;

  // `keys`: of each tenant, "" for none.
  Traffic(std::string target, std::vector<std::string> keys);
  // Cancels what runs.
  ~Traffic();
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  // Sent when they are due, whatever has become of others: a server that falls
  // behind is not asked less (coordinated omission). In order of `due`;
  // replaces those not sent yet.
  void SetPlan(std::vector<PlannedCall> plan);
  // Asked whenever a call ends, and what it gives is sent at once: a closed
  // loop. Null: nothing.
  void SetNext(
      std::function<std::optional<PlannedCall>(const CallOutcome&)> next) {
    next_ = std::move(next);
  }
  void Send(PlannedCall call);  // now; its latency counts from now

  // Drives all until `time`, or until `done` says so; it is asked after each
  // event. Whether it did.
  bool RunUntil(double time, const std::function<bool()>& done = nullptr);
  // Cancels what runs, and waits for it.
  void CancelAll();

  double Now() const;
  int running() const { return running_; }
  const std::vector<CallOutcome>& outcomes() const { return outcomes_; }

 private:
  class Call;
  struct Connection {
    std::unique_ptr<v1::GenerationService::Stub> stub;
    int calls = 0;
  };

  void Start(const PlannedCall& call);
  Connection* ConnectionFor(int tenant);
  void Take(Call* call, bool ok);
  MonotonicTime At(double time) const;

  const std::string target_;
  const std::vector<std::string> keys_;
  const MonotonicTime begin_;
  grpc::CompletionQueue queue_;
  std::vector<std::vector<std::unique_ptr<Connection>>> connections_;
  std::vector<PlannedCall> plan_;
  size_t planned_ = 0;  // of them, sent
  std::function<std::optional<PlannedCall>(const CallOutcome&)> next_;
  std::vector<CallOutcome> outcomes_;
  std::vector<std::unique_ptr<Call>> calls_;  // null once they ended
  int running_ = 0;
};

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_TENANTS_TRAFFIC_H_
