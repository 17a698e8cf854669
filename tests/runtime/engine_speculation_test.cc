// Speculation through the engine: what sinks and statistics are told.
#include <memory>
#include <string>
#include <vector>

#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

class EngineSpeculationTest : public EngineFixture {
 protected:
  EngineSpeculationTest() {
    runner_options_.limits.max_outputs = 32;
    runner_options_.repeats = 95;  // guesses are right about as often
    options_.max_draft_tokens = 7;
  }

  // Once the step that gave the last of so many tokens is in them.
  EngineStats StatsAfter(uint64_t tokens) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    EngineStats stats = engine_->Stats();
    while ((stats.generated_tokens < tokens || stats.blocks_used > 0) &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
      stats = engine_->Stats();
    }
    return stats;
  }
};

TEST_F(EngineSpeculationTest, TheSameTokensInFewerSteps) {
  Start();
  constexpr int32_t kTokens = 120;
  Request request = Make(20, kTokens);
  const auto sink = Submit(request);
  const RequestResult result = sink->Wait();
  EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  EXPECT_EQ(sink->text(), TextOf(sink->tokens()));
  EXPECT_EQ(result.generated_tokens, kTokens);
  EXPECT_GT(result.accepted_draft_tokens, kTokens / 3);
  EXPECT_GE(result.draft_tokens, result.accepted_draft_tokens);
  const EngineStats stats = StatsAfter(kTokens);
  EXPECT_EQ(stats.generated_tokens, uint64_t{kTokens});
  EXPECT_EQ(stats.draft_tokens, static_cast<uint64_t>(result.draft_tokens));
  EXPECT_EQ(stats.accepted_draft_tokens,
            static_cast<uint64_t>(result.accepted_draft_tokens));
  EXPECT_EQ(stats.steps,
            static_cast<uint64_t>(kTokens - result.accepted_draft_tokens));
}

// What comes behind a stop string in the same step is none of the answer's.
TEST_F(EngineSpeculationTest, AStopStringWithinADraft) {
  Start();
  const Request whole = Make(20, 120);
  const std::string text = TextOf(Alone(whole).tokens);
  uint64_t generated = 0;
  for (size_t at = 40; at < 60; ++at) {
    Request request = whole;
    request.id = 100 + at;
    request.sampling.stop_strings = {text.substr(at, 9)};
    const size_t found = text.find(request.sampling.stop_strings[0]);
    const auto sink = Submit(request);
    const RequestResult result = sink->Wait();
    EXPECT_EQ(result.reason, FinishReason::kStopString);
    EXPECT_EQ(sink->text(), text.substr(0, found));
    EXPECT_EQ(TextOf(sink->tokens()), text.substr(0, found + 9));
    EXPECT_EQ(result.generated_tokens, static_cast<int32_t>(found + 9));
    generated += found + 9;
  }
  const EngineStats stats = StatsAfter(generated);
  EXPECT_EQ(stats.generated_tokens, generated);
  EXPECT_GT(stats.accepted_draft_tokens, 0u);
}

// P8: everything is free a step later.
TEST_F(EngineSpeculationTest, CancelledInAStepWithDrafts) {
  Start();
  Request request = Make(20, 300);
  gate_.CloseAfter(20);  // with drafts, and long before its end
  const auto sink = Submit(request);
  gate_.WaitUntilHeld();
  engine_->Cancel(request.id);
  gate_.Open();
  EXPECT_EQ(sink->Wait().reason, FinishReason::kCancelled);
  EXPECT_GT(engine_->Stats().draft_tokens, 0u);
  EXPECT_EQ(StatsAfter(0).blocks_used, 0);
}

}  // namespace
}  // namespace descant
