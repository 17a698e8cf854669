// A request's sink that can be ended from outside the engine thread.
#ifndef DESCANT_RUNTIME_GUARDED_SINK_H_
#define DESCANT_RUNTIME_GUARDED_SINK_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"

namespace descant {

// Hands on what the engine thread says until the request has ended, for good
// or by Fail. The sink behind it is called by one thread at a time, and hears
// nothing after its OnFinish. Thread-safe.
class GuardedSink final : public TokenSink {
 public:
  GuardedSink(RequestId id, std::shared_ptr<TokenSink> sink)
      : id_(id), sink_(std::move(sink)) {}

  RequestId id() const { return id_; }

  // The request ends with kError and `status`. False: it has ended before, or
  // the engine thread is inside the sink right now.
  bool Fail(const absl::Status& status);

  void OnStart(int32_t prompt_tokens, int32_t cached_tokens) override;
  void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                const std::string& text) override;
  void OnChoiceFinish(int32_t choice, const ChoiceResult& result) override;
  void OnPrompt(absl::Span<const TokenEvent> tokens) override;
  void OnFinish(const RequestResult& result) override;
  bool WantsMore() const override;

 private:
  const RequestId id_;
  // The engine thread begins and ends a call of the sink. Null: it has ended.
  TokenSink* Enter() const;
  void Leave() const;

  mutable Mutex mutex_;
  std::shared_ptr<TokenSink> sink_ ABSL_GUARDED_BY(mutex_);  // null: ended
  mutable bool inside_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_GUARDED_SINK_H_
