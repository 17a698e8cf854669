// Cancellation, limits, faults, slow readers, stopping.
#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

using testing::IsEmpty;

using EngineLifecycleTest = EngineFixture;

TEST_F(EngineLifecycleTest, CancelFreesEverythingWithinAStep) {
  Start();
  gate_.CloseAfter(3);
  const Request request = Make(50, 300, MakeFakeAdapter("a"));
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  engine_->Cancel(request.id);
  engine_->Cancel(request.id);
  engine_->Cancel(4711);
  gate_.Open();
  const RequestResult result = sink->Wait();
  EXPECT_EQ(result.reason, FinishReason::kCancelled);
  EXPECT_TRUE(absl::IsCancelled(result.status));
  // Three steps, and the one that ran when the cancellation came.
  EXPECT_EQ(result.generated_tokens, 4);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().blocks_used, 0);
}

TEST_F(EngineLifecycleTest, AFullInboxAnswersAtOnce) {
  options_.max_waiting_requests = 2;
  options_.max_running_sequences = 1;
  gate_.Close();
  Start();
  const auto running = Submit(Make(3, 2));
  gate_.WaitUntilHeld();
  const auto first = Submit(Make(3, 2));
  // What runs counts until its first step is done.
  auto sink = std::make_shared<CollectingSink>();
  std::vector<std::shared_ptr<CollectingSink>> accepted = {running, first};
  absl::Status status;
  for (int i = 0; i < 3 && status.ok(); ++i) {
    sink = std::make_shared<CollectingSink>();
    status = engine_->Submit(Make(3, 2), sink);
    if (status.ok()) accepted.push_back(sink);
  }
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(ReasonOf(status), "QUEUE_FULL");
  gate_.Open();
  for (const auto& each : accepted) {
    EXPECT_EQ(each->Wait().reason, FinishReason::kLength);
  }
  EXPECT_FALSE(sink->finished());
}

TEST_F(EngineLifecycleTest, WaitingPromptTokensAreCapped) {
  options_.max_waiting_tokens = 100;
  options_.max_running_sequences = 1;
  gate_.Close();
  Start();
  const auto running = Submit(Make(90, 1));
  gate_.WaitUntilHeld();
  const auto status =
      engine_->Submit(Make(90, 1), std::make_shared<CollectingSink>());
  EXPECT_EQ(ReasonOf(status), "QUEUE_FULL");
  const auto small = Submit(Make(5, 1));
  gate_.Open();
  running->Wait();
  small->Wait();
}

TEST_F(EngineLifecycleTest, RefusesWhatCanNotRun) {
  Start();
  const auto sink = std::make_shared<CollectingSink>();
  EXPECT_TRUE(absl::IsInvalidArgument(engine_->Submit(Make(400, 1), sink)));
  Request late = Make(3, 3);
  late.deadline = clock_.Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(engine_->Submit(late, sink)));
  EXPECT_FALSE(sink->finished());
}

TEST_F(EngineLifecycleTest, ADeadlineEndsTheAnswer) {
  Start();
  Request request = Make(3, 390);
  request.deadline = clock_.Now() + std::chrono::seconds(5);
  gate_.Close();
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  clock_.Advance(std::chrono::seconds(6));
  gate_.Open();
  const RequestResult result = sink->Wait();
  EXPECT_EQ(result.reason, FinishReason::kDeadline);
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status));
}

TEST_F(EngineLifecycleTest, TimingsAddUp) {
  Start();
  Request request = Make(3, 2);
  request.arrival = clock_.Now() - std::chrono::seconds(2);
  gate_.Close();
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  clock_.Advance(std::chrono::seconds(3));
  gate_.Open();
  const RequestResult result = sink->Wait();
  EXPECT_EQ(ToSeconds(result.timings.queue), 2);
  EXPECT_EQ(ToSeconds(result.timings.prefill), 3);
  EXPECT_EQ(ToSeconds(result.timings.decode), 0);
}

TEST_F(EngineLifecycleTest, AnAdapterThatFailsToLoadFailsItsWaitersOnly) {
  Start([](FakeRunner* runner) { runner->broken_digests = {"sha256:bad"}; });
  const Request bad = Make(3, 5, MakeFakeAdapter("bad"));
  const Request good = Make(3, 5, MakeFakeAdapter("good"));
  const auto bad_sink = Submit(bad);
  const auto good_sink = Submit(good);
  const RequestResult failed = bad_sink->Wait();
  EXPECT_EQ(failed.reason, FinishReason::kError);
  EXPECT_TRUE(absl::IsInternal(failed.status));
  EXPECT_THAT(bad_sink->tokens(), IsEmpty());
  EXPECT_TRUE(good_sink->Wait().status.ok());
  EXPECT_EQ(good_sink->tokens(), Alone(good).tokens);
}

// Holds loads until it is opened.
class LoadGate {
 public:
  void Pass() {
    MutexLock lock(&mutex_);
    held_ = true;
    changed_.SignalAll();
    while (!open_) changed_.Wait(&mutex_);
  }
  void WaitUntilHeld() {
    MutexLock lock(&mutex_);
    while (!held_) changed_.Wait(&mutex_);
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.SignalAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(EngineLifecycleTest, ASlowLoadStallsNobodyElse) {
  LoadGate loads;
  Start([&](FakeRunner* runner) {
    runner->on_load = [&](const Adapter& adapter) {
      if (adapter.name == "slow") loads.Pass();
    };
  });
  const Request slow = Make(3, 8, MakeFakeAdapter("slow"));
  const auto slow_sink = Submit(slow);
  loads.WaitUntilHeld();
  const Request base = Make(3, 40);
  const auto base_sink = Submit(base);
  EXPECT_TRUE(base_sink->Wait().status.ok());
  EXPECT_EQ(base_sink->tokens(), Alone(base).tokens);
  EXPECT_THAT(slow_sink->tokens(), IsEmpty());
  const auto cancelled = Submit(Make(3, 8, slow.adapter));
  engine_->Cancel(last_id_);
  EXPECT_EQ(cancelled->Wait().reason, FinishReason::kCancelled);
  loads.Open();
  EXPECT_TRUE(slow_sink->Wait().status.ok());
  EXPECT_EQ(slow_sink->tokens(), Alone(slow).tokens);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().adapter_loads, 1u);
}

// Tensors from elsewhere, or none.
class FakeSource final : public AdapterSource {
 public:
  explicit FakeSource(absl::Status status) : status_(std::move(status)) {}
  absl::StatusOr<std::shared_ptr<const Adapter>> Load(
      const Adapter& adapter) const override {
    if (!status_.ok()) return status_;
    auto loaded = std::make_shared<Adapter>(adapter);
    loaded->source = nullptr;
    return std::shared_ptr<const Adapter>(std::move(loaded));
  }

 private:
  const absl::Status status_;
};

std::shared_ptr<const Adapter> MakeStored(const std::string& name,
                                          absl::Status status) {
  auto adapter = std::make_shared<Adapter>(*MakeFakeAdapter(name));
  adapter->source = std::make_shared<FakeSource>(std::move(status));
  return adapter;
}

TEST_F(EngineLifecycleTest, DamagedTensorsFailTheirRequestsOnly) {
  Start([](FakeRunner* runner) {
    runner->on_load = [](const Adapter& adapter) {
      EXPECT_EQ(adapter.source, nullptr);
    };
  });
  const auto bad = MakeStored("bad", absl::DataLossError("damaged"));
  const Request good = Make(3, 5, MakeStored("good", absl::OkStatus()));
  const auto bad_sink = Submit(Make(3, 5, bad));
  const auto second_sink = Submit(Make(3, 5, bad));
  const auto good_sink = Submit(good);
  EXPECT_TRUE(absl::IsDataLoss(bad_sink->Wait().status));
  EXPECT_TRUE(absl::IsDataLoss(second_sink->Wait().status));
  EXPECT_TRUE(good_sink->Wait().status.ok());
  EXPECT_EQ(good_sink->tokens(), Alone(good).tokens);
}

TEST_F(EngineLifecycleTest, StopsWhileAnAdapterLoads) {
  LoadGate loads;
  Start([&](FakeRunner* runner) {
    runner->on_load = [&](const Adapter&) { loads.Pass(); };
  });
  const auto first = Submit(Make(3, 5, MakeFakeAdapter("a")));
  const auto second = Submit(Make(3, 5, MakeFakeAdapter("b")));
  loads.WaitUntilHeld();
  std::thread stop([this] { engine_->Stop(clock_.Now()); });
  EXPECT_EQ(ReasonOf(first->Wait().status), "DRAINING");
  EXPECT_EQ(ReasonOf(second->Wait().status), "DRAINING");
  loads.Open();
  stop.join();
  engine_.reset();
}

TEST_F(EngineLifecycleTest, WhatNeverFitsFailsBesideLoadsThatDo) {
  runner_options_.arena_adapters = 0;
  Start();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 5; ++i) {
    sinks.push_back(Submit(Make(3, 8, MakeFakeAdapter(absl::StrCat("a", i)))));
  }
  for (const auto& sink : sinks) {
    EXPECT_TRUE(absl::IsResourceExhausted(sink->Wait().status));
  }
  EXPECT_TRUE(Submit(Make(3, 3))->Wait().status.ok());
}

TEST_F(EngineLifecycleTest, AFullArenaEvictsOrWaits) {
  runner_options_.arena_adapters = 1;
  Start();
  std::vector<std::pair<Request, std::shared_ptr<CollectingSink>>> all;
  for (int i = 0; i < 6; ++i) {
    const Request request = Make(3, 8, MakeFakeAdapter(absl::StrCat("a", i)));
    all.emplace_back(request, Submit(request));
  }
  for (auto& [request, sink] : all) {
    EXPECT_TRUE(sink->Wait().status.ok());
    EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  }
}

TEST_F(EngineLifecycleTest, AFailingStepFailsItsSequencesAndTheEngineGoesOn) {
  Start([](FakeRunner* runner) { runner->failing_steps = {1}; });
  const RequestResult result = Submit(Make(3, 5))->Wait();
  EXPECT_EQ(result.reason, FinishReason::kError);
  EXPECT_EQ(ReasonOf(result.status), "STEP_FAILED");
  const Request next = Make(3, 5);
  const auto sink = Submit(next);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(), Alone(next).tokens);
}

TEST_F(EngineLifecycleTest, ANumericFaultStaysInItsRequest) {
  Start([](FakeRunner* runner) { runner->faulty_requests = {1}; });
  const Request faulty = Make(40, 5);
  const Request healthy = Make(40, 50);
  const auto faulty_sink = Submit(faulty);
  const auto sink = Submit(healthy);
  EXPECT_EQ(ReasonOf(faulty_sink->Wait().status), "NUMERIC_FAULT");
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(), Alone(healthy).tokens);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().numeric_faults, 1u);
}

TEST_F(EngineLifecycleTest, AReaderThatStopsIsPausedAndOthersAreNot) {
  Start();
  const Request slow = Make(3, 60);
  const auto slow_sink = std::make_shared<CollectingSink>();
  slow_sink->wants_more = false;
  ASSERT_TRUE(engine_->Submit(slow, slow_sink).ok());
  slow_sink->WaitForTokens(1);
  const Request other = Make(3, 60);
  const auto sink = Submit(other);
  sink->Wait();
  EXPECT_EQ(sink->tokens(), Alone(other).tokens);
  EXPECT_LE(slow_sink->tokens().size(), 2u);
  EXPECT_FALSE(slow_sink->finished());
  slow_sink->wants_more = true;
  engine_->Wake();
  EXPECT_TRUE(slow_sink->Wait().status.ok());
  EXPECT_EQ(slow_sink->tokens(), Alone(slow).tokens);
}

TEST_F(EngineLifecycleTest, AReaderIsNoticedWithoutWakeToo) {
  Start();
  const auto sink = std::make_shared<CollectingSink>();
  sink->wants_more = false;
  ASSERT_TRUE(engine_->Submit(Make(3, 9), sink).ok());
  sink->WaitForTokens(1);
  sink->wants_more = true;
  EXPECT_TRUE(sink->Wait().status.ok());
}

TEST_F(EngineLifecycleTest, StopFinishesWhatWasAccepted) {
  Start();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 20; ++i) sinks.push_back(Submit(Make(10, 30)));
  engine_->Stop(kNoDeadline);
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->finished());
    EXPECT_TRUE(sink->Wait().status.ok());
  }
  const auto status =
      engine_->Submit(Make(3, 3), std::make_shared<CollectingSink>());
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  engine_.reset();
}

TEST_F(EngineLifecycleTest, StopAtItsDeadlineFailsTheRest) {
  options_.max_waiting_requests = 2;
  Start();
  gate_.Close();
  const auto running = Submit(Make(10, 390));
  gate_.WaitUntilHeld();
  const auto waiting = Submit(Make(10, 390));
  const MonotonicTime deadline = clock_.Now() + std::chrono::seconds(1);
  std::thread stopper([&] { engine_->Stop(deadline); });
  WaitUntilDraining();
  clock_.Advance(std::chrono::seconds(2));
  gate_.Open();
  stopper.join();
  for (const auto& sink : {running, waiting}) {
    ASSERT_TRUE(sink->finished());
    const RequestResult result = sink->Wait();
    EXPECT_EQ(result.reason, FinishReason::kError);
    EXPECT_TRUE(absl::IsUnavailable(result.status));
    EXPECT_EQ(ReasonOf(result.status), "DRAINING");
  }
  engine_.reset();
}

TEST_F(EngineLifecycleTest, StopNowFailsWhatRunsAndWhatWaits) {
  options_.max_waiting_requests = 2;
  options_.max_running_sequences = 1;
  Start();
  gate_.Close();
  const auto running = Submit(Make(10, 390));
  gate_.WaitUntilHeld();
  const auto waiting = Submit(Make(10, 390));
  std::thread stopper([&] { engine_->Stop(clock_.Now()); });
  WaitUntilDraining();
  gate_.Open();
  stopper.join();
  EXPECT_TRUE(absl::IsUnavailable(running->Wait().status));
  EXPECT_EQ(running->Wait().generated_tokens, 1);
  EXPECT_TRUE(absl::IsUnavailable(waiting->Wait().status));
  engine_.reset();
}

TEST_F(EngineLifecycleTest, ProgressIsNowWhileIdleAndOldWhileAStepHangs) {
  Start();
  Submit(Make(3, 2))->Wait();
  WaitUntilIdle();
  gate_.Close();
  const auto sink = Submit(Make(3, 2));
  const MonotonicTime before = clock_.Now();
  gate_.WaitUntilHeld();
  clock_.Advance(std::chrono::seconds(60));
  EXPECT_LE(engine_->LastProgress(), before);
  gate_.Open();
  sink->Wait();
}

TEST(EngineCreate, RefusesLimitsWithoutRoom) {
  FakeRunnerOptions options;
  FakeClock clock;
  const auto engine = Engine::Create(std::make_unique<FakeRunner>(options),
                                     nullptr, {}, EngineOptions{}, &clock);
  EXPECT_TRUE(absl::IsInvalidArgument(engine.status()));
}

}  // namespace
}  // namespace descant
