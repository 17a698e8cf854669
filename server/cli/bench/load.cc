#include "server/cli/bench/load.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "runtime/base/clock.h"

namespace descant::cli {
namespace {

// Tokens of an answer that need no growing.
constexpr size_t kReserve = 256;

MonotonicTime Now() { return std::chrono::steady_clock::now(); }

double Milliseconds(Duration duration) { return ToSeconds(duration) * 1e3; }

// One generation. It has one operation under way at any time, so its address
// is the tag of them all.
class Call {
 public:
  Call(v1::GenerationService::Stub* stub, const v1::GenerateRequest& request,
       StreamedAnswer* answer, grpc::CompletionQueue* queue)
      : answer_(answer), start_(Now()) {
    v1::GenerateStreamRequest stream_request;
    *stream_request.mutable_request() = request;
    reader_ =
        stub->PrepareAsyncGenerateStream(&context_, stream_request, queue);
    reader_->StartCall(this);
  }

  // Takes the end of the operation under way; true once the call is over.
  bool Advance(bool ok) {
    switch (state_) {
      case State::kStarting:
        Next(ok);
        return false;
      case State::kReading:
        if (ok) TakeMessage();
        Next(ok);
        return false;
      case State::kFinishing:
        return true;
    }
    return true;
  }

  void Cancel() { context_.TryCancel(); }
  const grpc::Status& status() const { return status_; }

 private:
  enum class State { kStarting, kReading, kFinishing };

  void Next(bool ok) {
    if (ok) {
      state_ = State::kReading;
      reader_->Read(&message_, this);
    } else {
      state_ = State::kFinishing;
      reader_->Finish(&status_, this);
    }
  }

  void TakeMessage() {
    if (!message_.adapter_digest().empty()) {
      answer_->adapter_digest = message_.adapter_digest();
    }
    const auto& tokens = message_.delta().token_ids();
    if (tokens.empty()) return;
    const MonotonicTime now = Now();
    if (answer_->tokens.empty()) {
      answer_->ttft_ms = Milliseconds(now - start_);
      answer_->itl_ms.insert(answer_->itl_ms.end(), tokens.size() - 1, 0.0);
    } else {
      answer_->itl_ms.insert(answer_->itl_ms.end(), tokens.size(),
                             Milliseconds(now - last_) / tokens.size());
    }
    last_ = now;
    answer_->tokens.insert(answer_->tokens.end(), tokens.begin(), tokens.end());
  }

  StreamedAnswer* const answer_;
  const MonotonicTime start_;
  MonotonicTime last_;
  State state_ = State::kStarting;
  grpc::ClientContext context_;
  v1::GenerateStreamResponse message_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateStreamResponse>> reader_;
  grpc::Status status_;
};

}  // namespace

uint64_t LoadResult::OutputTokens() const {
  uint64_t tokens = 0;
  for (const StreamedAnswer& answer : answers) tokens += answer.tokens.size();
  return tokens;
}

double LoadResult::OutputTokensPerSecond() const {
  return seconds > 0 ? static_cast<double>(OutputTokens()) / seconds : 0;
}

grpc::Status RunLoad(v1::GenerationService::Stub* stub,
                     const std::vector<v1::GenerateRequest>& requests,
                     int in_flight, LoadResult* result) {
  *result = {};
  result->answers.resize(requests.size());
  for (StreamedAnswer& answer : result->answers) {
    answer.tokens.reserve(kReserve);
    answer.itl_ms.reserve(kReserve);
  }
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Call>> calls;
  size_t running = 0;
  const auto start_next = [&] {
    const size_t i = calls.size();
    calls.push_back(
        std::make_unique<Call>(stub, requests[i], &result->answers[i], &queue));
    ++running;
  };
  grpc::Status status;
  const MonotonicTime start = Now();
  while (running < static_cast<size_t>(in_flight) &&
         calls.size() < requests.size()) {
    start_next();
  }
  void* tag = nullptr;
  bool ok = false;
  while (running > 0 && queue.Next(&tag, &ok)) {
    auto* call = static_cast<Call*>(tag);
    if (!call->Advance(ok)) continue;
    --running;
    if (!call->status().ok() && status.ok()) {
      status = call->status();
      for (const auto& other : calls) other->Cancel();
    }
    if (status.ok() && calls.size() < requests.size()) start_next();
  }
  result->seconds = ToSeconds(Now() - start);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return status;
}

}  // namespace descant::cli
