#include "runtime/answer.h"

#include <utility>

namespace descant {

Answer::Answer(const Request& request, std::shared_ptr<TokenSink> sink,
               const Tokenizer* tokenizer)
    : sink_(std::move(sink)),
      adapter_(request.adapter),
      stop_strings_(request.sampling.stop_strings),
      include_stop_string_(request.sampling.include_stop_string),
      min_tokens_(request.sampling.min_tokens),
      arrival_(request.arrival) {
  choices_.reserve(request.sampling.n);
  for (int32_t i = 0; i < request.sampling.n; ++i) {
    choices_.emplace_back(tokenizer, stop_strings_);
  }
}

void Answer::Take(const StepOutput& output, int32_t begin, int32_t end) {
  tokens_.clear();
  for (int32_t i = begin; i < end; ++i) {
    const SampledToken& sampled = output.sampled[i];
    TokenEvent& token = tokens_.emplace_back();
    token.token = sampled.token;
    token.logprob = sampled.logprob;
    token.top.assign(output.top.begin() + sampled.top_begin,
                     output.top.begin() + sampled.top_end);
  }
}

// `text` of the choice's last token, as far as it may be shown.
std::string Answer::Match(Choice* choice, const std::string& text) {
  StopMatcher& matcher = choice->matcher;
  std::string shown = matcher.Append(text, choice->tokens > min_tokens_);
  if (matcher.matched() && include_stop_string_) {
    shown += stop_strings_[matcher.matched_index()];
  }
  return shown;
}

bool Answer::Append(const SequenceEvent& event, const StepOutput& output,
                    MonotonicTime now, uint64_t* generated) {
  if (!started_) {
    first_token_ = now;
    sink_->OnStart(event.prompt_tokens, event.cached_tokens);
  }
  started_ = true;
  last_token_ = now;
  text_.clear();
  Choice& choice = choices_[event.choice];
  int32_t end = event.begin;
  while (end < event.end && !choice.matcher.matched()) {
    const int32_t token = output.sampled[end++].token;
    ++choice.tokens;
    const bool ends = event.stop_token >= 0 && end == event.end;
    if (!ends) text_ += Match(&choice, choice.detokenizer.Append(token));
  }
  *generated += end - event.begin;
  Take(output, event.begin, end);
  sink_->OnTokens(event.choice, tokens_, text_);
  return choice.matcher.matched();
}

void Answer::AppendPrompt(const SequenceEvent& event,
                          const StepOutput& output) {
  Take(output, event.prompt_begin, event.begin);
  sink_->OnPrompt(tokens_);
}

void Answer::FinishChoice(const SequenceEvent& event,
                          const absl::Status& status) {
  Choice& choice = choices_[event.choice];
  ChoiceResult& result = choice.result;
  result.reason = event.finish;
  result.generated_tokens = choice.tokens;
  generated_tokens_ += choice.tokens;
  draft_tokens_ += event.draft_tokens;
  accepted_draft_tokens_ += event.accepted_draft_tokens;
  if (event.first_scheduled != MonotonicTime{} &&
      (first_scheduled_ == MonotonicTime{} ||
       event.first_scheduled < first_scheduled_)) {
    first_scheduled_ = event.first_scheduled;
  }
  if (!status.ok()) return;
  if (!choice.matcher.matched()) {
    std::string rest = Match(&choice, choice.detokenizer.Flush());
    if (!choice.matcher.matched()) rest += choice.matcher.Flush();
    if (!rest.empty()) sink_->OnTokens(event.choice, {}, rest);
  }
  if (choice.matcher.matched()) {
    result.reason = FinishReason::kStopString;
    result.stop = stop_strings_[choice.matcher.matched_index()];
  } else {
    result.stop_token = event.stop_token;
  }
  sink_->OnChoiceFinish(event.choice, result);
}

void Answer::Finish(const SequenceEvent& event, absl::Status status,
                    MonotonicTime now) {
  FinishChoice(event, status);
  if (!event.last) return;
  RequestResult result;
  const ChoiceResult& first = choices_.front().result;
  result.reason = status.ok() ? first.reason : event.finish;
  result.stop = first.stop;
  result.stop_token = first.stop_token;
  result.status = std::move(status);
  result.prompt_tokens = event.prompt_tokens;
  result.cached_tokens = event.cached_tokens;
  result.generated_tokens = generated_tokens_;
  result.draft_tokens = draft_tokens_;
  result.accepted_draft_tokens = accepted_draft_tokens_;
  const bool scheduled = first_scheduled_ != MonotonicTime{};
  result.timings.queue = (scheduled ? first_scheduled_ : now) - arrival_;
  if (started_) {
    result.timings.prefill = first_token_ - first_scheduled_;
    result.timings.decode = last_token_ - first_token_;
  }
  sink_->OnFinish(result);
}

}  // namespace descant
