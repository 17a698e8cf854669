// One request's answers on their way to the client: text, stop strings,
// timings.
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

// Used by the engine thread. Calls the sink as TokenSink says.
class Answer {
 public:
  // `tokenizer` outlives it.
  Answer(const Request& request, std::shared_ptr<TokenSink> sink,
         const Tokenizer* tokenizer);

  // The new tokens of `event`. True when their text completed a stop string:
  // the caller then ends that choice with kStopString. Tokens behind that one,
  // which a draft may have brought, are none of the answer's; `generated` grows
  // by the others.
  bool Append(const SequenceEvent& event, const StepOutput& output,
              MonotonicTime now, uint64_t* generated);
  // The tokens of the prompt that `event` has.
  void AppendPrompt(const SequenceEvent& event, const StepOutput& output);

  // `event` finishes a choice, and with event.last the request; `status` is
  // not OK for kError, kDeadline and kCancelled. Gives out held-back text
  // first, after a normal end.
  void Finish(const SequenceEvent& event, absl::Status status,
              MonotonicTime now);

  // Whether the sink wants more; before the first token it always does.
  bool WantsMore() const { return !started_ || sink_->WantsMore(); }
  bool paused = false;  // what the scheduler was told
  // There was a token.
  bool started() const { return started_; }

  const std::shared_ptr<const Adapter>& adapter() const { return adapter_; }

 private:
  struct Choice {
    Choice(const Tokenizer* tokenizer, const std::vector<std::string>& stops)
        : detokenizer(tokenizer, /*skip_special_tokens=*/true),
          matcher(stops) {}
    IncrementalDetokenizer detokenizer;
    StopMatcher matcher;
    int32_t tokens = 0;
    ChoiceResult result;
  };

  std::string Match(Choice* choice, const std::string& text);
  void Take(const StepOutput& output, int32_t begin, int32_t end);
  void FinishChoice(const SequenceEvent& event, const absl::Status& status);

  const std::shared_ptr<TokenSink> sink_;
  const std::shared_ptr<const Adapter> adapter_;
  const std::vector<std::string> stop_strings_;
  const bool include_stop_string_;
  const int32_t min_tokens_;
  const MonotonicTime arrival_;
  std::vector<Choice> choices_;
  std::vector<TokenEvent> tokens_;  // of the event at hand
  std::string text_;
  // Of the choices that finished.
  int32_t generated_tokens_ = 0;
  int32_t draft_tokens_ = 0;
  int32_t accepted_draft_tokens_ = 0;
  bool started_ = false;
  MonotonicTime first_scheduled_{};
  MonotonicTime first_token_{};
  MonotonicTime last_token_{};
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ANSWER_H_
