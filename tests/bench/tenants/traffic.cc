#include "tests/bench/tenants/traffic.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/duration.pb.h"
#include "runtime/base/check.h"
#include "server/cli/error_report.h"

namespace descant::bench {
namespace {

using std::chrono::steady_clock;

std::chrono::system_clock::time_point OnSystemClock(MonotonicTime time) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             time - steady_clock::now());
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

}  // namespace

// One operation under way at any time, so that its address is the tag of all;
// none once its reader has stopped.
class Traffic::Call {
 public:
  Call(Traffic* traffic, size_t index, Connection* connection)
      : traffic_(traffic), index_(index), connection_(connection) {}

  void Start(const PlannedCall& plan, const std::string& key) {
    reads_left_ = plan.reads;
    if (!key.empty()) context_.AddMetadata("authorization", "Bearer " + key);
    if (plan.timeout > 0) {
      context_.set_deadline(
          OnSystemClock(traffic_->At(outcome().due + plan.timeout)));
    }
    v1::GenerateStreamRequest request;
    *request.mutable_request() = plan.request;
    reader_ = connection_->stub->PrepareAsyncGenerateStream(&context_, request,
                                                            &traffic_->queue_);
    reader_->StartCall(this);
  }

  // Takes the end of the operation under way; whether that ended the call.
  bool Advance(bool ok) {
    if (finishing_) {
      CallOutcome& result = outcome();
      result.end = traffic_->Now();
      result.ended = true;
      result.code = status_.error_code();
      if (!status_.ok()) {
        const cli::ErrorFacts facts = cli::FactsOf(status_);
        result.error = absl::StrCat(facts.code, " ", facts.reason);
      }
      --connection_->calls;
      return true;
    }
    if (started_ && ok) TakeMessage();
    started_ = true;
    if (!ok) {
      finishing_ = true;
      reader_->Finish(&status_, this);
    } else if (reads_left_-- > 0) {
      reader_->Read(&message_, this);
    } else {
      stopped_ = true;
    }
    return false;
  }

  size_t index() const { return index_; }

  void Cancel() {
    context_.TryCancel();
    if (!std::exchange(stopped_, false)) return;
    reads_left_ = std::numeric_limits<int>::max();
    reader_->Read(&message_, this);
  }

 private:
  CallOutcome& outcome() { return traffic_->outcomes_[index_]; }

  void TakeMessage() {
    const int tokens = message_.delta().token_ids_size();
    CallOutcome& result = outcome();
    if (tokens > 0) result.messages.push_back({traffic_->Now(), tokens});
    if (message_.has_usage()) {
      result.cached_tokens = message_.usage().cached_tokens();
      result.prefill = Seconds(message_.timings().prefill());
    }
  }

  Traffic* const traffic_;
  const size_t index_;
  Connection* const connection_;
  bool started_ = false, finishing_ = false, stopped_ = false;
  int reads_left_ = 0;
  grpc::ClientContext context_;
  v1::GenerateStreamResponse message_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateStreamResponse>> reader_;
  grpc::Status status_;
};

Traffic::Traffic(std::string target, std::vector<std::string> keys)
    : target_(std::move(target)),
      keys_(std::move(keys)),
      begin_(steady_clock::now()),
      connections_(keys_.size()) {}

Traffic::~Traffic() {
  CancelAll();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

double Traffic::Now() const { return ToSeconds(steady_clock::now() - begin_); }

MonotonicTime Traffic::At(double time) const {
  return begin_ + std::chrono::duration_cast<Duration>(
                      std::chrono::duration<double>(time));
}

void Traffic::SetPlan(std::vector<PlannedCall> plan) {
  plan_ = std::move(plan);
  planned_ = 0;
}

void Traffic::Send(PlannedCall call) {
  call.due = Now();
  Start(call);
}

Traffic::Connection* Traffic::ConnectionFor(int tenant) {
  auto& connections = connections_[tenant];
  for (const auto& connection : connections) {
    if (connection->calls < kCallsPerConnection) return connection.get();
  }
  grpc::ChannelArguments arguments;
  // Else channels to the same address share one connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A window that grows as data flows would hide how much is unread.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  connections.push_back(std::make_unique<Connection>());
  connections.back()->stub =
      v1::GenerationService::NewStub(grpc::CreateCustomChannel(
          target_, grpc::InsecureChannelCredentials(), arguments));
  return connections.back().get();
}

void Traffic::Start(const PlannedCall& call) {
  Connection* connection = ConnectionFor(call.tenant);
  ++connection->calls;
  CallOutcome outcome;
  outcome.tenant = call.tenant;
  outcome.due = call.due;
  outcome.sent = Now();
  outcomes_.push_back(std::move(outcome));
  calls_.push_back(std::make_unique<Call>(this, calls_.size(), connection));
  ++running_;
  calls_.back()->Start(call, keys_[call.tenant]);
}

void Traffic::Take(Call* call, bool ok) {
  const size_t index = call->index();
  if (!call->Advance(ok)) return;
  calls_[index].reset();
  --running_;
  if (!next_) return;
  // A copy: the vector may grow.
  const CallOutcome ended = outcomes_[index];
  if (std::optional<PlannedCall> next = next_(ended)) Send(*std::move(next));
}

bool Traffic::RunUntil(double time, const std::function<bool()>& done) {
  while (!done || !done()) {
    const double now = Now();
    if (planned_ < plan_.size() && plan_[planned_].due <= now) {
      Start(plan_[planned_++]);
      continue;
    }
    if (now >= time) return false;
    const double until =
        planned_ < plan_.size() ? std::min(time, plan_[planned_].due) : time;
    void* tag = nullptr;
    bool ok = false;
    const auto event = queue_.AsyncNext(&tag, &ok, OnSystemClock(At(until)));
    DESCANT_CHECK(event != grpc::CompletionQueue::SHUTDOWN);
    if (event == grpc::CompletionQueue::GOT_EVENT) {
      Take(static_cast<Call*>(tag), ok);
    }
  }
  return true;
}

void Traffic::CancelAll() {
  plan_.clear();
  planned_ = 0;
  next_ = nullptr;
  for (const auto& call : calls_) {
    if (call != nullptr) call->Cancel();
  }
  void* tag = nullptr;
  bool ok = false;
  while (running_ > 0 && queue_.Next(&tag, &ok)) {
    Take(static_cast<Call*>(tag), ok);
  }
}

}  // namespace descant::bench
