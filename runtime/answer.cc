#include "runtime/answer.h"

#include <utility>

namespace descant {

Answer::Answer(const Request& request, std::shared_ptr<TokenSink> sink,
               const Tokenizer* tokenizer)
    : sink_(std::move(sink)),
      adapter_(request.adapter),
      stop_strings_(request.sampling.stop_strings),
      arrival_(request.arrival),
      detokenizer_(tokenizer, /*skip_special_tokens=*/true),
      matcher_(stop_strings_) {}

bool Answer::Append(const SequenceEvent& event, const StepOutput& output,
                    MonotonicTime now) {
  if (!started_) first_token_ = now;
  started_ = true;
  last_token_ = now;
  tokens_.clear();
  text_.clear();
  for (int32_t i = event.begin; i < event.end; ++i) {
    const SampledToken& sampled = output.sampled[i];
    TokenEvent& token = tokens_.emplace_back();
    token.token = sampled.token;
    token.logprob = sampled.logprob;
    token.top.assign(output.top.begin() + sampled.top_begin,
                     output.top.begin() + sampled.top_end);
    const bool ends = event.stop_token >= 0 && i + 1 == event.end;
    if (!ends) text_ += matcher_.Append(detokenizer_.Append(sampled.token));
    if (matcher_.matched()) break;
  }
  sink_->OnTokens(tokens_, text_);
  return matcher_.matched();
}

void Answer::Finish(const SequenceEvent& event, absl::Status status,
                    MonotonicTime now) {
  RequestResult result;
  result.reason = event.finish;
  if (status.ok() && !matcher_.matched()) {
    std::string rest = matcher_.Append(detokenizer_.Flush());
    if (!matcher_.matched()) rest += matcher_.Flush();
    if (!rest.empty()) sink_->OnTokens({}, rest);
  }
  if (matcher_.matched() && status.ok()) {
    result.reason = FinishReason::kStopString;
    result.stop = stop_strings_[matcher_.matched_index()];
  } else {
    result.stop_token = event.stop_token;
  }
  result.status = std::move(status);
  result.prompt_tokens = event.prompt_tokens;
  result.generated_tokens = event.generated_tokens;
  const bool scheduled = event.first_scheduled != MonotonicTime{};
  result.timings.queue = (scheduled ? event.first_scheduled : now) - arrival_;
  if (started_) {
    result.timings.prefill = first_token_ - event.first_scheduled;
    result.timings.decode = last_token_ - first_token_;
  }
  sink_->OnFinish(result);
}

}  // namespace descant
