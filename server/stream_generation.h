// GenerateStream: the answer as it grows, at the reader's pace.
#ifndef DESCANT_SERVER_STREAM_GENERATION_H_
#define DESCANT_SERVER_STREAM_GENERATION_H_

#include <atomic>
#include <optional>
#include <vector>

#include "runtime/base/mutex.h"
#include "server/generation_call.h"

namespace descant {

// One write in flight. What comes meanwhile is gathered into one message for
// each choice, so that a slow reader gets fewer, larger messages; they go out
// in turn. When they reach their limit together the engine pauses the request
// (WantsMore); when a write takes longer than the stall timeout the stream ends
// with RESOURCE_EXHAUSTED and its sequences are freed.
class StreamGeneration final
    : public grpc::ServerWriteReactor<v1::GenerateStreamResponse>,
      public GenerationCall {
 public:
  StreamGeneration(EdgeContext* edge, grpc::CallbackServerContext* context,
                   const v1::GenerateStreamRequest* request);

  void OnCancel() override { CancelGeneration(); }
  void OnWriteDone(bool ok) override;
  void OnDone() override;
  bool WantsMore() const override;
  void Flush() override;
  void Sweep(MonotonicTime now) override;

 private:
  // The next message of one choice.
  struct Pending {
    v1::GenerateStreamResponse message;
    size_t bytes = 0;
    bool any = false;
  };

  bool streams() const override { return true; }
  void Reject(const grpc::Status& status) override;
  void Append(int32_t choice, absl::Span<const TokenEvent> tokens,
              const std::string& text) override;
  void AppendPrompt(std::optional<int32_t> first,
                    absl::Span<const TokenEvent> tokens) override;
  void FinishChoice(int32_t choice, const ChoiceResult& result) override;
  void Complete(const RequestResult& result) override;

  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Pending& PendingLocked(int32_t choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddBytesLocked(Pending* pending, size_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Moves the next choice's message to in_flight_. False: there is none.
  bool TakeNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts the next write, or ends the stream, where nothing is in flight.
  void AdvanceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const grpc::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::vector<Pending> pending_ ABSL_GUARDED_BY(mutex_);  // by choice
  size_t pending_count_ ABSL_GUARDED_BY(mutex_) = 0;  // choices with a message
  size_t next_choice_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t finished_choices_ ABSL_GUARDED_BY(mutex_) = 0;
  // gRPC reads it while writing_ is set.
  v1::GenerateStreamResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestResult> result_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime write_started_ ABSL_GUARDED_BY(mutex_){};
  MonotonicTime ended_at_ ABSL_GUARDED_BY(mutex_){};
  bool sent_first_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool wake_pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // a status was given to gRPC
  bool done_ ABSL_GUARDED_BY(mutex_) = false;   // the context may be gone
  std::atomic<size_t> pending_bytes_{0};
};

}  // namespace descant

#endif  // DESCANT_SERVER_STREAM_GENERATION_H_
