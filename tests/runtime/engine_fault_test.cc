// Faults of steps stay with the requests at fault; an engine that hangs answers
// those that wait for it.
#include <set>

#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

class EngineFaultTest : public EngineFixture {
 protected:
  using Requests =
      std::vector<std::pair<Request, std::shared_ptr<CollectingSink>>>;

  // Eight that run together, on the base and on adapters.
  Requests SubmitEight() {
    Requests all;
    for (int i = 0; i < 8; ++i) {
      Request request = Make(
          20 + 7 * i, 30,
          i % 3 == 0 ? nullptr : MakeFakeAdapter(absl::StrCat("a", i % 3)));
      request.sampling.ignore_eos = true;
      request.sampling.top_logprobs = i % 2;
      if (i == 4) request.sampling.prompt_logprobs = 1;
      all.emplace_back(request, Submit(request));
    }
    return all;
  }

  // All but those in `guilty` have the answers that they have alone.
  void ExpectOnly(const std::set<RequestId>& guilty, const Requests& all) {
    for (const auto& [request, sink] : all) {
      const RequestResult result = sink->Wait();
      if (guilty.count(request.id) > 0) {
        EXPECT_EQ(result.reason, FinishReason::kError);
        EXPECT_TRUE(absl::IsInternal(result.status));
        EXPECT_EQ(ReasonOf(result.status), "STEP_FAILED") << request.id;
      } else {
        EXPECT_TRUE(result.status.ok()) << request.id << result.status;
        EXPECT_EQ(sink->tokens(), Alone(request).tokens) << request.id;
      }
    }
    WaitUntilIdle();
    const EngineStats stats = engine_->Stats();
    EXPECT_EQ(stats.failed_sequences, guilty.size());
    EXPECT_EQ(stats.blocks_used, 0);
  }
};

TEST_F(EngineFaultTest, ARequestThatNoStepCanComputeFailsAlone) {
  for (const RequestId guilty : {1, 3, 8}) {
    last_id_ = 0;
    Start([&](FakeRunner* runner) { runner->failing_requests = {guilty}; });
    ExpectOnly({guilty}, SubmitEight());
    engine_->Stop(clock_.Now());
    EXPECT_THAT(runner_->violations(), testing::IsEmpty());
    engine_.reset();
  }
}

TEST_F(EngineFaultTest, ARequestThatThrowsFailsAlone) {
  Start([](FakeRunner* runner) { runner->throwing_requests = {5}; });
  ExpectOnly({5}, SubmitEight());
}

TEST_F(EngineFaultTest, SeveralAtFaultFailTogetherAndNobodyElse) {
  Start([](FakeRunner* runner) {
    runner->failing_requests = {2, 7};
    runner->throwing_requests = {3};
  });
  ExpectOnly({2, 3, 7}, SubmitEight());
}

// What has no culprit fails whole, and the next step goes on.
TEST_F(EngineFaultTest, AStepThatFailsInAllPartsFailsItsRequests) {
  Start([](FakeRunner* runner) { runner->failing_steps = {4}; });
  const Requests all = SubmitEight();
  int failed = 0;
  for (const auto& [request, sink] : all) {
    failed += sink->Wait().status.ok() ? 0 : 1;
  }
  EXPECT_GE(failed, 1);
  const Request next = Make(40, 20);
  const auto sink = Submit(next);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(), Alone(next).tokens);
}

TEST_F(EngineFaultTest, AHungEngineAnswersWhoWaits) {
  options_.max_running_sequences = 2;
  Start();
  gate_.CloseAfter(2);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(Submit(Make(10, 300)));
  gate_.WaitUntilHeld();
  sinks.push_back(Submit(Make(10, 300)));  // in the inbox
  const MonotonicTime before = engine_->LastProgress();
  clock_.Advance(std::chrono::seconds(60));
  EXPECT_EQ(engine_->LastProgress(), before) << "busy, and no progress";

  const absl::Status stalled = ReasonedError(absl::StatusCode::kUnavailable,
                                             "ENGINE_STALLED", "no progress");
  EXPECT_EQ(engine_->FailInFlight(stalled), 5);
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->finished());
    EXPECT_EQ(ReasonOf(sink->Wait().status), "ENGINE_STALLED");
  }
  EXPECT_EQ(engine_->FailInFlight(stalled), 0);
  EXPECT_EQ(
      ReasonOf(engine_->Submit(Make(3, 3), std::make_shared<CollectingSink>())),
      "ENGINE_STALLED");

  // The thread goes on: it frees everything, tells nobody twice, and serves.
  gate_.Open();
  WaitUntilIdle();
  while (ReasonOf(
             engine_->Submit(Make(3, 3), std::make_shared<CollectingSink>())) ==
         "ENGINE_STALLED") {
    std::this_thread::yield();
  }
  const Request next = Make(10, 9);
  const auto sink = Submit(next);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(), Alone(next).tokens);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().blocks_used, 0);
}

TEST_F(EngineFaultTest, IdleAndBusyAreProgress) {
  Start();
  clock_.Advance(std::chrono::hours(2));
  EXPECT_EQ(engine_->LastProgress(), clock_.Now()) << "idle";
  gate_.Close();
  const auto sink = Submit(Make(3, 50));
  for (int i = 0; i < 10; ++i) {
    gate_.WaitUntilHeld();
    clock_.Advance(std::chrono::seconds(20));
    const MonotonicTime now = clock_.Now();
    gate_.PassOne();
    EXPECT_GE(engine_->LastProgress(), now) << "a long step, and its end";
  }
  gate_.Open();
  EXPECT_TRUE(sink->Wait().status.ok());
}

TEST_F(EngineFaultTest, ADeviceThatFailedForGoodIsInTheStats) {
  Start();
  Submit(Make(4, 2))->Wait();
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().device_failure, "");
  gate_.Close();
  const Request request = Make(4, 2);
  runner_->failing_requests = {request.id};
  runner_->broken = absl::InternalError("fell off the bus");
  const auto sink = Submit(request);
  gate_.Open();
  EXPECT_EQ(sink->Wait().reason, FinishReason::kError);
  // The stats follow the answer by a moment.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (engine_->Stats().device_failure.empty() &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_THAT(engine_->Stats().device_failure,
              testing::HasSubstr("fell off the bus"));
}

}  // namespace
}  // namespace descant
