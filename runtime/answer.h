// One request's answer on its way to the client: text, stop strings, timings.
#ifndef DESCANT_RUNTIME_ANSWER_H_
#define DESCANT_RUNTIME_ANSWER_H_

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/scheduler.h"
#include "runtime/engine.h"
#include "runtime/tokenizer/detokenizer.h"
#include "runtime/tokenizer/stop_matcher.h"

namespace descant {

// Used by the engine thread. Calls the sink as TokenSink says: OnTokens any
// number of times, then OnFinish exactly once.
class Answer {
 public:
  // `tokenizer` outlives it.
  Answer(const Request& request, std::shared_ptr<TokenSink> sink,
         const Tokenizer* tokenizer);

  // The new tokens of `event`. True when their text completed a stop string:
  // the caller then ends the sequence with kStopString.
  bool Append(const SequenceEvent& event, const StepOutput& output,
              MonotonicTime now);

  // `event.finish` is the reason; `status` is not OK for kError, kDeadline and
  // kCancelled. Gives out held-back text first, after a normal end.
  void Finish(const SequenceEvent& event, absl::Status status,
              MonotonicTime now);

  // Whether the sink wants more; before the first token it always does.
  bool WantsMore() const { return !started_ || sink_->WantsMore(); }
  bool paused = false;  // what the scheduler was told

  const std::shared_ptr<const Adapter>& adapter() const { return adapter_; }

 private:
  const std::shared_ptr<TokenSink> sink_;
  const std::shared_ptr<const Adapter> adapter_;
  const std::vector<std::string> stop_strings_;
  const MonotonicTime arrival_;
  IncrementalDetokenizer detokenizer_;
  StopMatcher matcher_;
  std::vector<TokenEvent> tokens_;  // of the event at hand
  std::string text_;
  bool started_ = false;
  MonotonicTime first_token_{};
  MonotonicTime last_token_{};
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ANSWER_H_
