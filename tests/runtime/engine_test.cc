// Answers: tokens, text, stop strings, timings.
#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

using testing::SizeIs;

using EngineTest = EngineFixture;

TEST_F(EngineTest, AnswersManyAtOnceEachAsAlone) {
  Start();
  std::vector<Request> requests;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(
        Make(1 + i * 3, 5 + i,
             i % 3 == 0 ? nullptr : MakeFakeAdapter(absl::StrCat("a", i % 7))));
  }
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const Request& request : requests) sinks.push_back(Submit(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    const RequestResult result = sinks[i]->Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.reason, FinishReason::kLength);
    EXPECT_EQ(result.prompt_tokens, requests[i].prompt.size());
    EXPECT_EQ(result.generated_tokens, requests[i].sampling.max_tokens);
    EXPECT_EQ(sinks[i]->tokens(), Alone(requests[i]).tokens);
    EXPECT_EQ(sinks[i]->text(), TextOf(sinks[i]->tokens()));
  }
  WaitUntilIdle();
  const EngineStats stats = engine_->Stats();
  EXPECT_EQ(stats.blocks_used, 0);
  EXPECT_EQ(stats.generated_tokens, 40u * 5 + 39 * 40 / 2);
  EXPECT_GE(stats.adapter_loads, 7u);
  EXPECT_EQ(stats.slots_used, 3);
  EXPECT_THAT(stats.running_adapters, SizeIs(3));
}

TEST_F(EngineTest, SubmitsFromManyThreads) {
  Start();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        Request request;
        request.id = 1000 * (t + 1) + i;
        request.prompt = {t, i, 3};
        request.sampling.max_tokens = 6;
        request.arrival = clock_.Now();
        auto sink = std::make_shared<CollectingSink>();
        EXPECT_TRUE(engine_->Submit(request, sink).ok());
        if (i % 5 == 0) engine_->Cancel(request.id);
        engine_->Stats();
        engine_->LastProgress();
        const RequestResult result = sink->Wait();
        if (result.reason == FinishReason::kCancelled) {
          ++good;
        } else if (sink->tokens() == Alone(request).tokens) {
          ++good;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 100);
}

TEST_F(EngineTest, StopStringsEndTheAnswerBeforeThem) {
  Start();
  Request request = Make(9, 60);
  const std::string text = TextOf(Alone(request).tokens);
  request.sampling.stop_strings = {"never", text.substr(20, 4)};
  const size_t cut = text.find(request.sampling.stop_strings[1]);
  const auto sink = Submit(request);
  const RequestResult result = sink->Wait();
  EXPECT_EQ(result.reason, FinishReason::kStopString);
  EXPECT_EQ(result.stop, text.substr(20, 4));
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(sink->text(), text.substr(0, cut));
  EXPECT_EQ(result.generated_tokens, static_cast<int32_t>(cut) + 4);
}

TEST_F(EngineTest, TextHeldBackForAStopStringComesAtTheEnd) {
  Start();
  Request request = Make(9, 10);
  const std::string text = TextOf(Alone(request).tokens);
  request.sampling.stop_strings = {text.substr(7) + "#"};
  const auto sink = Submit(request);
  EXPECT_EQ(sink->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(sink->text(), text);
}

TEST_F(EngineTest, TheTokenThatEndsAddsNoText) {
  Request probe = Make(5, 30);
  Start();
  const std::vector<int32_t> tokens = Alone(probe).tokens;
  const int32_t stop = tokens[6];
  const auto end = std::find(tokens.begin(), tokens.end(), stop) + 1;
  probe.sampling.stop_token_ids = {stop};
  const auto sink = Submit(probe);
  const RequestResult result = sink->Wait();
  EXPECT_EQ(result.reason, FinishReason::kStopToken);
  EXPECT_EQ(result.stop_token, stop);
  EXPECT_EQ(sink->tokens(), std::vector<int32_t>(tokens.begin(), end));
  EXPECT_EQ(sink->text(),
            TextOf(std::vector<int32_t>(tokens.begin(), end - 1)));
}

TEST_F(EngineTest, TopLogprobsArriveWithTheirToken) {
  Start();
  Request request = Make(4, 1);
  request.sampling.top_logprobs = 3;
  const auto sink = Submit(request);
  sink->Wait();
  ASSERT_THAT(sink->top(), SizeIs(3));
  EXPECT_EQ(sink->top()[0].token, sink->tokens()[0]);
}

}  // namespace
}  // namespace descant
