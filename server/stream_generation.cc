#include "server/stream_generation.h"

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

StreamGeneration::Pending& StreamGeneration::PendingLocked(int32_t choice) {
  pending_.resize(plan().n);
  Pending& pending = pending_[choice];
  if (!pending.any) ++pending_count_;
  pending.any = true;
  return pending;
}

void StreamGeneration::AddBytesLocked(Pending* pending, size_t bytes) {
  pending->bytes += bytes;
  pending_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  WakeLocked();
}

void StreamGeneration::Append(int32_t choice,
                              absl::Span<const TokenEvent> tokens,
                              const std::string& text) {
  const bool shows =
      !text.empty() || plan().output.token_ids || plan().output.logprobs;
  if (!shows) return;
  MutexLock lock(&mutex_);
  if (ended_) return;
  Pending& pending = PendingLocked(choice);
  AddBytesLocked(&pending, AppendTokens(tokens, text, plan().output,
                                        pending.message.mutable_delta()));
}

void StreamGeneration::AppendPrompt(std::optional<int32_t> first,
                                    absl::Span<const TokenEvent> tokens) {
  MutexLock lock(&mutex_);
  if (ended_) return;
  Pending& pending = PendingLocked(0);
  AddBytesLocked(&pending,
                 AppendPromptTokens(first, tokens,
                                    pending.message.mutable_prompt_logprobs()));
}

// Sent with what comes next.
void StreamGeneration::FinishChoice(int32_t choice,
                                    const ChoiceResult& result) {
  MutexLock lock(&mutex_);
  ++finished_choices_;
  if (ended_) return;
  SetFinish(result, PendingLocked(choice).message.mutable_delta());
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
    if (ok || result_.has_value()) AdvanceLocked();
  }
  if (was_paused) edge()->engine->Wake();
}

bool StreamGeneration::TakeNextLocked() {
  if (pending_count_ == 0) return false;
  while (!pending_[next_choice_].any) {
    next_choice_ = (next_choice_ + 1) % pending_.size();
  }
  Pending& pending = pending_[next_choice_];
  if (pending.message.has_delta()) {
    pending.message.mutable_delta()->set_index(
        static_cast<uint32_t>(next_choice_));
  }
  in_flight_.Swap(&pending.message);
  pending_bytes_.fetch_sub(pending.bytes, std::memory_order_relaxed);
  pending.bytes = 0;
  pending.any = false;
  --pending_count_;
  next_choice_ = (next_choice_ + 1) % pending_.size();
  return true;
}

void StreamGeneration::AdvanceLocked() {
  if (writing_ || ended_) return;
  const absl::Status status =
      result_.has_value() ? ResultStatus(*result_) : absl::OkStatus();
  if (!status.ok()) return EndLocked(ToGrpcStatus(status, facts()));
  // The end of the last choice goes out with the usage, which is on its way.
  if (!result_.has_value() && finished_choices_ == plan().n) return;
  if (!TakeNextLocked() && !result_.has_value()) return;

  const bool last = result_.has_value() && pending_count_ == 0;
  if (last) {
    SetUsage(*result_, in_flight_.mutable_usage());
    SetTimings(result_->timings, in_flight_.mutable_timings());
  }
  if (last || !sent_first_) SetIdentity(&in_flight_);
  sent_first_ = true;
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
    EndLocked(ToGrpcStatus(ReaderStopped(), facts()));
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
