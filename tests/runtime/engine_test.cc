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

TEST_F(EngineTest, AStopStringMayBeShown) {
  Start();
  Request request = Make(9, 60);
  const std::string text = TextOf(Alone(request).tokens);
  request.sampling.stop_strings = {text.substr(20, 4)};
  request.sampling.include_stop_string = true;
  const auto sink = Submit(request);
  EXPECT_EQ(sink->Wait().reason, FinishReason::kStopString);
  EXPECT_EQ(sink->text(),
            text.substr(0, text.find(request.sampling.stop_strings[0]) + 4));
}

// A stop string that is complete with the last of min_tokens doesn't count, one
// that is complete with the next token does.
TEST_F(EngineTest, NoStopStringEndsBeforeMinTokens) {
  Start();
  for (const int32_t min_tokens : {3, 4}) {
    Request request = Make(9, 60);
    const std::string text = TextOf(Alone(request).tokens);
    const std::string stop = text.substr(0, 4);
    ASSERT_EQ(text.find(stop, 1), std::string::npos);
    request.sampling.stop_strings = {stop};
    request.sampling.min_tokens = min_tokens;
    const auto sink = Submit(request);
    const RequestResult result = sink->Wait();
    if (min_tokens == 3) {
      EXPECT_EQ(result.reason, FinishReason::kStopString);
      EXPECT_EQ(sink->text(), "");
    } else {
      EXPECT_EQ(result.reason, FinishReason::kLength);
      EXPECT_EQ(sink->text(), text);
    }
  }
}

TEST_F(EngineTest, EachAnswerStopsByItself) {
  Start();
  Request request = Make(70, 40);
  request.sampling.n = 3;
  std::vector<std::string> texts;
  for (int i = 0; i < 3; ++i) {
    Request one = request;
    one.sampling.choice = i;
    texts.push_back(TextOf(Alone(one).tokens));
  }
  request.sampling.stop_strings = {texts[1].substr(10, 5)};
  const auto sink = Submit(request);
  const RequestResult result = sink->Wait();
  EXPECT_EQ(result.reason, FinishReason::kLength);  // the first one's
  EXPECT_EQ(result.prompt_tokens, 70);
  EXPECT_EQ(result.generated_tokens, 40 + 15 + 40);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().blocks_used, 0);
  EXPECT_EQ(engine_->Stats().prompt_tokens, 70u);
}

TEST_F(EngineTest, AnswersThatWaitCountEach) {
  options_.max_waiting_requests = 6;  // the one in the step still counts
  options_.max_running_sequences = 1;
  Start();
  gate_.Close();
  const auto first = Submit(Make(3, 3));
  gate_.WaitUntilHeld();
  Request several = Make(3, 3);
  several.sampling.n = 4;
  const auto second = Submit(several);
  Request more = Make(3, 3);
  more.sampling.n = 2;
  const auto refused = std::make_shared<CollectingSink>();
  EXPECT_EQ(ReasonOf(engine_->Submit(more, refused)), "QUEUE_FULL");
  const auto third = Submit(Make(3, 3));
  gate_.Open();
  for (const auto& sink : {first, second, third}) sink->Wait();
}

TEST_F(EngineTest, CancellingEndsAllAnswers) {
  Start();
  gate_.CloseAfter(3);
  Request request = Make(70, 40);
  request.sampling.n = 3;
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  engine_->Cancel(request.id);
  gate_.Open();
  EXPECT_EQ(sink->Wait().reason, FinishReason::kCancelled);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().blocks_used, 0);
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
