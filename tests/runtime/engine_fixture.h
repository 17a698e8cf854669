// An engine over the fake runner, a sink that collects, a gate that holds the
// engine thread in a step.
#ifndef DESCANT_TESTS_RUNTIME_ENGINE_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_ENGINE_FIXTURE_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/mutex.h"
#include "runtime/base/reason.h"
#include "runtime/engine.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_runner.h"

namespace descant {

inline constexpr int32_t kVocab = 26;  // 'a' .. 'z'
inline constexpr std::chrono::seconds kPatience{20};

inline std::shared_ptr<const Tokenizer> MakeTokenizer() {
  GgufVocabulary vocabulary;
  for (char c = 'a'; c <= 'z'; ++c) vocabulary.tokens.emplace_back(1, c);
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  auto tokenizer = Tokenizer::FromGguf(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(*tokenizer);
}

inline std::string TextOf(const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens) text += static_cast<char>('a' + token);
  return text;
}

// Collects an answer; other threads wait for it.
class CollectingSink final : public TokenSink {
 public:
  void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                const std::string& text) override {
    MutexLock lock(&mutex_);
    for (const TokenEvent& token : tokens) {
      tokens_.push_back(token.token);
      top_ = token.top;
    }
    text_ += text;
    changed_.SignalAll();
  }
  void OnFinish(const RequestResult& result) override {
    MutexLock lock(&mutex_);
    EXPECT_FALSE(finished_) << "finished twice";
    result_ = result;
    finished_ = true;
    changed_.SignalAll();
  }
  bool WantsMore() const override { return wants_more; }

  RequestResult Wait() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(&mutex_);
    while (!finished_ && changed_.WaitUntil(&mutex_, deadline)) {
    }
    EXPECT_TRUE(finished_) << "no answer";
    return result_;
  }
  void WaitForTokens(size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(&mutex_);
    while (tokens_.size() < count && changed_.WaitUntil(&mutex_, deadline)) {
    }
    EXPECT_GE(tokens_.size(), count);
  }
  std::vector<int32_t> tokens() {
    MutexLock lock(&mutex_);
    return tokens_;
  }
  std::string text() {
    MutexLock lock(&mutex_);
    return text_;
  }
  bool finished() {
    MutexLock lock(&mutex_);
    return finished_;
  }
  std::vector<TokenLogprob> top() {
    MutexLock lock(&mutex_);
    return top_;
  }

  std::atomic<bool> wants_more{true};

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<int32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenLogprob> top_ ABSL_GUARDED_BY(mutex_);
  std::string text_ ABSL_GUARDED_BY(mutex_);
  RequestResult result_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

// Holds the engine thread in Launch while closed.
class Gate {
 public:
  void Close() { CloseAfter(0); }
  // Lets `steps` more steps pass.
  void CloseAfter(int steps) {
    MutexLock lock(&mutex_);
    steps_left_ = steps;
  }
  void Open() {
    MutexLock lock(&mutex_);
    steps_left_ = -1;
    changed_.SignalAll();
  }
  void Pass() {
    MutexLock lock(&mutex_);
    while (steps_left_ == 0) {
      held_ = true;
      changed_.SignalAll();
      changed_.Wait(&mutex_);
    }
    if (steps_left_ > 0) --steps_left_;
    held_ = false;
  }
  // One of the steps that it holds. Waits until it holds the next one.
  void PassOne() {
    MutexLock lock(&mutex_);
    steps_left_ = 1;
    held_ = false;
    changed_.SignalAll();
    while (!held_) changed_.Wait(&mutex_);
  }
  void WaitUntilHeld() {
    MutexLock lock(&mutex_);
    while (!held_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int steps_left_ ABSL_GUARDED_BY(mutex_) = -1;  // -1: open
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
};

class EngineFixture : public testing::Test {
 protected:
  EngineFixture() {
    runner_options_.limits.max_rows = 64;
    runner_options_.limits.max_sequences = 8;
    runner_options_.limits.max_outputs = 8;
    runner_options_.limits.max_blocks_per_sequence = 16;
    runner_options_.limits.max_slots = 3;
    runner_options_.num_blocks = 64;
    runner_options_.vocab_size = kVocab;
    options_.max_model_len = 400;
    options_.max_running_sequences = 8;
  }
  ~EngineFixture() override {
    if (engine_ == nullptr) return;
    gate_.Open();
    engine_->Stop(clock_.Now());
    EXPECT_THAT(runner_->violations(), testing::IsEmpty());
  }

  // `prepare` sets the faults of the runner.
  void Start(const std::function<void(FakeRunner*)>& prepare = nullptr) {
    auto runner = std::make_unique<FakeRunner>(runner_options_);
    runner_ = runner.get();
    runner->on_launch = [this](const Batch&) { gate_.Pass(); };
    if (prepare) prepare(runner_);
    auto engine = Engine::Create(std::move(runner), MakeTokenizer(), eos_,
                                 options_, &clock_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
  }

  Request Make(int32_t prompt, int32_t max_tokens,
               std::shared_ptr<const Adapter> adapter = nullptr) {
    Request request;
    request.id = ++last_id_;
    for (int i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>((i + last_id_) % kVocab));
    }
    request.sampling.max_tokens = max_tokens;
    request.adapter = std::move(adapter);
    request.arrival = clock_.Now();
    return request;
  }

  std::shared_ptr<CollectingSink> Submit(const Request& request) {
    auto sink = std::make_shared<CollectingSink>();
    const absl::Status status = engine_->Submit(request, sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }

  ExpectedAnswer Alone(const Request& request) const {
    return runner_->Alone(request, eos_, options_.max_model_len);
  }

  // REQUIRES: the queue is full, and Stop was or will be called.
  void WaitUntilDraining() {
    const auto sink = std::make_shared<CollectingSink>();
    while (ReasonOf(engine_->Submit(Make(3, 3), sink)) == "QUEUE_FULL") {
      std::this_thread::yield();
    }
  }

  // The stats follow the answer by a moment.
  void WaitUntilIdle() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      const EngineStats stats = engine_->Stats();
      if (stats.running == 0 && stats.waiting == 0) return;
      std::this_thread::yield();
    }
    FAIL() << "not idle";
  }

  FakeRunnerOptions runner_options_;
  EngineOptions options_;
  std::vector<int32_t> eos_;
  FakeClock clock_;
  Gate gate_;
  FakeRunner* runner_ = nullptr;
  std::unique_ptr<Engine> engine_;
  RequestId last_id_ = 0;
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_ENGINE_FIXTURE_H_
