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
       MonotonicTime due, StreamedAnswer* answer, grpc::CompletionQueue* queue)
      : answer_(answer), start_(due) {
    answer_->late_ms = Milliseconds(Now() - due);
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

// Calls that run, in the order of the requests.
class Load {
 public:
  Load(v1::GenerationService::Stub* stub,
       const std::vector<v1::GenerateRequest>& requests, LoadResult* result)
      : stub_(stub), requests_(requests), result_(result) {
    *result = {};
    result->answers.resize(requests.size());
    for (StreamedAnswer& answer : result->answers) {
      answer.tokens.reserve(kReserve);
      answer.itl_ms.reserve(kReserve);
    }
  }

  int running() const { return running_; }
  size_t started() const { return calls_.size(); }
  // Whether requests are left to start; none are after an error.
  bool more() const { return status_.ok() && calls_.size() < requests_.size(); }

  // The next request, whose latency counts from `due`.
  void StartNext(MonotonicTime due) {
    const size_t i = calls_.size();
    calls_.push_back(std::make_unique<Call>(stub_, requests_[i], due,
                                            &result_->answers[i], &queue_));
    ++running_;
  }

  // Waits for one event, or until `until`; whether it ended a call.
  bool Await(MonotonicTime until) {
    void* tag = nullptr;
    bool ok = false;
    if (until == MonotonicTime::max()) {
      if (!queue_.Next(&tag, &ok)) return false;
    } else {
      const auto deadline =
          std::chrono::system_clock::now() +
          std::chrono::duration_cast<std::chrono::system_clock::duration>(
              until - Now());
      if (queue_.AsyncNext(&tag, &ok, deadline) !=
          grpc::CompletionQueue::GOT_EVENT) {
        return false;
      }
    }
    auto* call = static_cast<Call*>(tag);
    if (!call->Advance(ok)) return false;
    --running_;
    if (!call->status().ok() && status_.ok()) {
      status_ = call->status();
      for (const auto& other : calls_) other->Cancel();
    }
    return true;
  }

  // REQUIRES: nothing runs.
  grpc::Status Finish(MonotonicTime start) {
    result_->seconds = ToSeconds(Now() - start);
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
    return status_;
  }

 private:
  v1::GenerationService::Stub* const stub_;
  const std::vector<v1::GenerateRequest>& requests_;
  LoadResult* const result_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Call>> calls_;
  int running_ = 0;
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
  Load load(stub, requests, result);
  const MonotonicTime start = Now();
  while (load.running() < in_flight && load.more()) load.StartNext(Now());
  while (load.running() > 0) {
    if (load.Await(MonotonicTime::max()) && load.more()) load.StartNext(Now());
  }
  return load.Finish(start);
}

grpc::Status RunOpenLoad(v1::GenerationService::Stub* stub,
                         const std::vector<v1::GenerateRequest>& requests,
                         const std::vector<double>& arrivals,
                         LoadResult* result) {
  Load load(stub, requests, result);
  const MonotonicTime start = Now();
  const auto due = [&] {
    return start + std::chrono::duration_cast<Duration>(
                       std::chrono::duration<double>(arrivals[load.started()]));
  };
  while (load.more() || load.running() > 0) {
    if (load.more() && due() <= Now()) {
      load.StartNext(due());
    } else {
      load.Await(load.more() ? due() : MonotonicTime::max());
    }
  }
  return load.Finish(start);
}

}  // namespace descant::cli
