#include "server/stream_generation.h"

#include "runtime/base/reason.h"
#include "server/generation_output.h"
#include "server/limits.h"

namespace descant {

StreamGeneration::StreamGeneration(EdgeContext* edge,
                                   grpc::CallbackServerContext* context,
                                   const v1::GenerateStreamRequest* request)
    : GenerationCall(edge, context,
                     request->has_request() ? &request->request() : nullptr,
                     "GenerateStream") {}

bool StreamGeneration::WantsMore() const {
  return pending_bytes_.load(std::memory_order_relaxed) <
         limits::kMaxStreamPendingBytes;
}

void StreamGeneration::WakeLocked() {
  // With a write in flight, OnWriteDone goes on.
  if (writing_ || wake_pending_ || ended_) return;
  wake_pending_ = true;
  edge()->egress->Wake(shared_from_this());
}

void StreamGeneration::Append(absl::Span<const TokenEvent> tokens,
                              const std::string& text) {
  const bool shows =
      !text.empty() || plan().output.token_ids || plan().output.logprobs;
  if (!shows) return;
  MutexLock lock(&mutex_);
  if (ended_) return;
  const size_t bytes =
      AppendTokens(tokens, text, plan().output, pending_.mutable_delta());
  pending_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  has_pending_ = true;
  WakeLocked();
}

void StreamGeneration::Complete(const RequestResult& result) {
  MutexLock lock(&mutex_);
  result_ = result;
  WakeLocked();
}

void StreamGeneration::Flush() {
  MutexLock lock(&mutex_);
  wake_pending_ = false;
  AdvanceLocked();
}

void StreamGeneration::OnWriteDone(bool ok) {
  const bool was_paused = !WantsMore();
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    in_flight_.Clear();
    // A failed write means that the call is over; OnCancel says so too, and
    // the engine's OnFinish ends it.
    if (!ok) has_pending_ = false;
    AdvanceLocked();
  }
  if (was_paused) edge()->engine->Wake();
}

void StreamGeneration::FillLastLocked(const RequestResult& result) {
  SetFinish(result, pending_.mutable_delta());
  SetUsage(result, pending_.mutable_usage());
  SetTimings(result.timings, pending_.mutable_timings());
}

void StreamGeneration::AdvanceLocked() {
  if (writing_ || ended_) return;
  const absl::Status status =
      result_.has_value() ? ResultStatus(*result_) : absl::OkStatus();
  if (!status.ok()) return EndLocked(ToGrpcStatus(status, facts()));
  const bool last = result_.has_value();
  if (!has_pending_ && !last) return;

  if (last) FillLastLocked(*result_);
  if (last || !sent_first_) SetIdentity(&pending_);
  sent_first_ = true;
  in_flight_.Swap(&pending_);
  has_pending_ = false;
  pending_bytes_.store(0, std::memory_order_relaxed);
  write_started_ = edge()->clock->Now();
  writing_ = true;
  if (last) {
    ended_ = true;
    ended_at_ = write_started_;
    StartWriteAndFinish(&in_flight_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&in_flight_);
  }
}

void StreamGeneration::EndLocked(const grpc::Status& status) {
  if (ended_) return;
  ended_ = true;
  ended_at_ = edge()->clock->Now();
  Finish(status);
}

void StreamGeneration::Reject(const grpc::Status& status) {
  MutexLock lock(&mutex_);
  EndLocked(status);
}

void StreamGeneration::Sweep(MonotonicTime now) {
  const Duration limit = edge()->options.stream_stall_timeout;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    if (ended_) {
      // The status waits behind a message that nobody reads.
      if (now - ended_at_ > limit) context()->TryCancel();
      return;
    }
    if (!writing_ || now - write_started_ <= limit) return;
    EndLocked(ToGrpcStatus(
        ReasonedError(absl::StatusCode::kResourceExhausted,
                      reason::kStreamStalled,
                      "the reader of this stream stopped for too long"),
        facts()));
  }
  CancelGeneration();
}

void StreamGeneration::OnDone() {
  {
    MutexLock lock(&mutex_);
    done_ = true;
  }
  ReleaseSelf();
}

}  // namespace descant
