// The engine with a runner whose steps go on beside it: the next one is
// scheduled while one is in flight, and nobody's answer changes.
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

class EngineOverlapTest : public EngineFixture {
 protected:
  EngineOverlapTest() { runner_options_.overlaps = true; }
};

TEST_F(EngineOverlapTest, DecodesAreScheduledAhead) {
  Start();
  constexpr int32_t kTokens = 50;
  const Request request = Make(20, kTokens);
  const auto sink = Submit(request);
  sink->Wait();
  EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  EXPECT_EQ(sink->text(), TextOf(sink->tokens()));
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().steps_ahead, uint64_t{kTokens - 1});
  EXPECT_EQ(engine_->Stats().steps, uint64_t{kTokens});
}

// Once in a while a step is not, so that drafts show whether they pay.
TEST_F(EngineOverlapTest, DraftsThatAreRightKeepTheirPlace) {
  runner_options_.limits.max_outputs = 32;
  runner_options_.repeats = 95;
  options_.max_draft_tokens = 7;
  Start();
  constexpr int32_t kTokens = 200;
  const Request request = Make(20, kTokens);
  const auto sink = Submit(request);
  const RequestResult result = sink->Wait();
  EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  EXPECT_GT(result.accepted_draft_tokens, kTokens / 4);
}

TEST_F(EngineOverlapTest, DraftsThatAreWrongLeaveMostStepsAhead) {
  runner_options_.limits.max_outputs = 32;
  options_.max_draft_tokens = 7;
  Start();
  constexpr int32_t kTokens = 200;
  const Request request = Make(20, kTokens);
  const auto sink = Submit(request);
  sink->Wait();
  EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  WaitUntilIdle();
  EXPECT_GT(engine_->Stats().steps_ahead, uint64_t{kTokens / 2});
}

TEST_F(EngineOverlapTest, WhatACancelledRequestHasIsFreeAfterTheStep) {
  Start();
  gate_.CloseAfter(5);
  const Request request = Make(20, 300);
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  engine_->Cancel(request.id);
  gate_.Open();
  EXPECT_EQ(sink->Wait().reason, FinishReason::kCancelled);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (engine_->Stats().blocks_used > 0 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(engine_->Stats().blocks_used, 0);
}

TEST_F(EngineOverlapTest, AFaultAndAFailedStepHitTheirRequestsAlone) {
  Start();
  for (const bool fails : {false, true}) {
    gate_.Close();
    std::vector<Request> requests;
    for (int i = 0; i < 6; ++i) requests.push_back(Make(10 + i, 40));
    (fails ? runner_->failing_requests
           : runner_->faulty_requests) = {requests[3].id};
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (const Request& request : requests) sinks.push_back(Submit(request));
    gate_.Open();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      const RequestResult result = sinks[i]->Wait();
      if (i == 3) {
        EXPECT_EQ(result.reason, FinishReason::kError);
      } else {
        EXPECT_EQ(sinks[i]->tokens(), Alone(requests[i]).tokens);
      }
    }
  }
}

// Little memory, adapters that take each other's slots, several answers, stop
// strings, readers that pause.
TEST_F(EngineOverlapTest, ACrowdGetsWhatEachGetsAlone) {
  runner_options_.num_blocks = 20;
  runner_options_.repeats = 60;
  runner_options_.limits.max_outputs = 24;
  options_.max_draft_tokens = 4;
  Start();
  std::vector<std::shared_ptr<const Adapter>> adapters = {nullptr};
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    adapters.push_back(MakeFakeAdapter(name));
  }
  std::mt19937 random(7);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 60; ++i) {
    Request request = Make(static_cast<int32_t>(5 + random() % 90),
                           static_cast<int32_t>(1 + random() % 60),
                           adapters[random() % adapters.size()]);
    if (random() % 4 == 0) {
      const std::string text = TextOf(Alone(request).tokens);
      request.sampling.stop_strings = {text.substr(text.size() / 2, 3)};
    }
    sinks.push_back(Submit(request));
    sinks.back()->wants_more = random() % 5 != 0;
    requests.push_back(std::move(request));
  }
  for (const auto& sink : sinks) sink->wants_more = true;
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(i);
    sinks[i]->Wait();
    std::string expected = TextOf(Alone(requests[i]).tokens);
    if (!requests[i].sampling.stop_strings.empty()) {
      expected.resize(expected.find(requests[i].sampling.stop_strings[0]));
    }
    EXPECT_EQ(sinks[i]->text(), expected);
  }
  EXPECT_GT(engine_->Stats().steps_ahead, 100u);
}

}  // namespace
}  // namespace descant
