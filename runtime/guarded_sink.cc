#include "runtime/guarded_sink.h"

namespace descant {

bool GuardedSink::Fail(const absl::Status& status) {
  std::shared_ptr<TokenSink> sink;
  {
    MutexLock lock(&mutex_);
    if (inside_) return false;
    sink = std::exchange(sink_, nullptr);
  }
  if (sink == nullptr) return false;
  RequestResult result;
  result.reason = FinishReason::kError;
  result.status = status;
  sink->OnFinish(result);
  return true;
}

TokenSink* GuardedSink::Enter() const {
  MutexLock lock(&mutex_);
  inside_ = sink_ != nullptr;
  return sink_.get();
}

void GuardedSink::Leave() const {
  MutexLock lock(&mutex_);
  inside_ = false;
}

void GuardedSink::OnStart(int32_t prompt_tokens, int32_t cached_tokens) {
  TokenSink* sink = Enter();
  if (sink == nullptr) return;
  sink->OnStart(prompt_tokens, cached_tokens);
  Leave();
}

void GuardedSink::OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                           const std::string& text) {
  TokenSink* sink = Enter();
  if (sink == nullptr) return;
  sink->OnTokens(choice, tokens, text);
  Leave();
}

void GuardedSink::OnChoiceFinish(int32_t choice, const ChoiceResult& result) {
  TokenSink* sink = Enter();
  if (sink == nullptr) return;
  sink->OnChoiceFinish(choice, result);
  Leave();
}

void GuardedSink::OnPrompt(absl::Span<const TokenEvent> tokens) {
  TokenSink* sink = Enter();
  if (sink == nullptr) return;
  sink->OnPrompt(tokens);
  Leave();
}

void GuardedSink::OnFinish(const RequestResult& result) {
  std::shared_ptr<TokenSink> sink;
  {
    MutexLock lock(&mutex_);
    sink = std::exchange(sink_, nullptr);
  }
  if (sink != nullptr) sink->OnFinish(result);
}

// Who has ended holds nothing back.
bool GuardedSink::WantsMore() const {
  const TokenSink* sink = Enter();
  if (sink == nullptr) return true;
  const bool wants = sink->WantsMore();
  Leave();
  return wants;
}

}  // namespace descant
