// Owns scheduler, runner and the one engine thread. Requests in, tokens out.
#ifndef DESCANT_RUNTIME_ENGINE_H_
#define DESCANT_RUNTIME_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/base/clock.h"
#include "runtime/core/batch.h"
#include "runtime/core/request.h"
#include "runtime/model/runner.h"

namespace descant {

class Tokenizer;

struct EngineOptions {
  int32_t max_model_len = 0;
  int32_t max_waiting_requests = 1024;   // answers that wait: the inbox's cap
  int64_t max_waiting_tokens = 1 << 20;  // prompt tokens waiting
  int32_t max_running_sequences = 64;
  int32_t max_adapters_per_step = 0;  // 0: as many as there are slots
};

// One sampled token. The one that ended the answer (end of sequence, a stop
// token) is reported as well; it adds no text.
struct TokenEvent {
  int32_t token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;
};

struct RequestTimings {
  Duration queue{};    // arrival -> first scheduled
  Duration prefill{};  // first scheduled -> first token
  Duration decode{};   // first token -> last token
};

// How one answer ended.
struct ChoiceResult {
  FinishReason reason = FinishReason::kNone;
  std::string stop;  // the stop string, where that ended it
  int32_t stop_token = -1;
  int32_t generated_tokens = 0;
};

struct RequestResult {
  // Of the first answer; where the request failed, why.
  FinishReason reason = FinishReason::kNone;
  absl::Status status;  // not OK for kError, kDeadline, kCancelled
  std::string stop;
  int32_t stop_token = -1;
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  // of all answers
  int32_t cached_tokens = 0;
  RequestTimings timings;
};

// Receives one request's output, on the engine thread, in order: for each
// choice (answer, from 0) any number of OnTokens and, where it did not fail,
// OnChoiceFinish; the choices mixed; then OnFinish exactly once. An answer
// that fails fails the request. Must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // `text` is the part of the answer that is now final: whole characters, stop
  // strings held back.
  virtual void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                        const std::string& text) = 0;
  virtual void OnChoiceFinish(int32_t choice, const ChoiceResult& result) {}
  // With SamplingParams::prompt_logprobs: the prompt's tokens from the second
  // one on, each once, in order, before the first OnTokens.
  virtual void OnPrompt(absl::Span<const TokenEvent> tokens) {}
  virtual void OnFinish(const RequestResult& result) = 0;
  // Polled before each step: a sequence whose reader fell behind is paused.
  virtual bool WantsMore() const { return true; }
};

// A snapshot, refreshed by the engine thread after each step. Counters only
// grow.
struct EngineStats {
  int32_t running = 0;
  int32_t waiting = 0;
  int32_t blocks_total = 0;
  int32_t blocks_used = 0;
  int32_t slots_total = 0;
  int32_t slots_used = 0;
  uint64_t steps = 0;
  uint64_t rows = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t adapter_loads = 0;
  uint64_t adapter_evictions = 0;
  uint64_t numeric_faults = 0;
  double step_seconds = 0;  // summed
  // "tenant/name" or "name" of adapters resident in a slot, and of those with
  // waiting requests.
  std::vector<std::string> running_adapters;
  std::vector<std::string> waiting_adapters;
};

// Thread-safe. Stop() is called once, before destruction.
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::unique_ptr<Runner> runner,
      std::shared_ptr<const Tokenizer> tokenizer,
      std::vector<int32_t> eos_token_ids, const EngineOptions& options,
      const Clock* clock);
  virtual ~Engine() = default;

  // Queues the request, or answers at once: UNAVAILABLE reason QUEUE_FULL or
  // DRAINING, DEADLINE_EXCEEDED, INVALID_ARGUMENT when it can never fit. `sink`
  // lives until its OnFinish returned; it gets nothing when Submit fails.
  virtual absl::Status Submit(Request request,
                              std::shared_ptr<TokenSink> sink) = 0;

  // Frees everything the request holds within one step; its sink gets
  // OnFinish(kCancelled) unless it has finished. Unknown ids are ignored.
  virtual void Cancel(RequestId id) = 0;

  // A paused sink wants more again: continues it at once. (Without the call the
  // engine notices within milliseconds.)
  virtual void Wake() {}

  virtual EngineStats Stats() const = 0;
  // Time of the last completed step, or now when idle: for the watchdog.
  virtual MonotonicTime LastProgress() const = 0;

  // No new requests; those accepted run until `deadline`, then are failed
  // with UNAVAILABLE. Joins the engine thread.
  virtual void Stop(MonotonicTime deadline) = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ENGINE_H_
