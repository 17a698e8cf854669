// What the scheduler makes of the prefix cache.
#include <algorithm>
#include <utility>

#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

class SchedulerPrefixTest : public SchedulerFixture {
 protected:
  SchedulerPrefixTest() {
    options_.prefix_cache = true;
    options_.limits.max_rows = 128;
  }

  // A request of tenant "t" for `tokens` of answer to a prompt of `prompt`
  // equal tokens.
  static Request Ask(RequestId id, int32_t prompt, int32_t tokens = 1,
                     std::shared_ptr<const Adapter> adapter = nullptr) {
    Request request = Make(id, prompt, tokens, std::move(adapter));
    request.tenant = "t";
    return request;
  }

  // Runs one request to its end; its first step.
  std::string Run(Request request) {
    const RequestId id = request.id;
    scheduler().Add(std::move(request));
    const std::string first = Step();
    while (!scheduler().idle()) {
      Step();
      for (const SequenceEvent& event : scheduler().events()) {
        if (event.id == id) cached_ = event.cached_tokens;
      }
    }
    return first;
  }

  int32_t cached_ = 0;
};

TEST_F(SchedulerPrefixTest, AKnownBeginningIsNotComputedAgain) {
  EXPECT_EQ(Run(Ask(1, 70)), "1[0-69]* |");
  EXPECT_EQ(scheduler().blocks().used(), 0);
  EXPECT_EQ(scheduler().blocks().idle(), 2);
  EXPECT_EQ(Run(Ask(2, 70)), "2[64-69]* |");
  EXPECT_EQ(Run(Ask(3, 100)), "3[64-99]* |");
  EXPECT_EQ(Run(Ask(4, 97)), "4[96]* |");
  // One row is always left to sample from.
  EXPECT_EQ(Run(Ask(5, 64)), "5[32-63]* |");
  EXPECT_EQ(scheduler().blocks().idle(), 3);
}

TEST_F(SchedulerPrefixTest, TheAnswerTellsAndTheTenantPaysForTheRest) {
  Run(Ask(1, 70));
  const int64_t before = scheduler().fairness().counter(0);
  scheduler().Add(Ask(2, 70, 3));
  Schedule();
  EXPECT_EQ(scheduler().fairness().counter(0) - before, 6 * kCounterUnit);
  Update();
  ASSERT_EQ(scheduler().events().size(), 1u);
  EXPECT_EQ(scheduler().events()[0].cached_tokens, 64);
}

TEST_F(SchedulerPrefixTest, OtherTenantsAndAdaptersComputeTheirOwn) {
  Run(Ask(1, 70));
  Request other = Ask(2, 70);
  other.tenant = "u";
  EXPECT_EQ(Run(std::move(other)), "2[0-69]* |");
  scheduler().Add(Ask(3, 70, 1, a_));
  EXPECT_EQ(Step(), "3@0[0-69]* | 0:0-70");
  scheduler().Add(Ask(4, 70, 1, b_));
  EXPECT_EQ(Step(), "4@1[0-69]* | 1:0-70");
  scheduler().Add(Ask(5, 70, 1, a_));
  EXPECT_EQ(Step(), "5@0[64-69]* | 0:0-6");
}

// A conversation's next turn begins with the last one's answer.
TEST_F(SchedulerPrefixTest, AnswersAreKnownToo) {
  Request first = Ask(1, 20, 60);
  std::vector<int32_t> prompt = first.prompt;
  Run(std::move(first));
  prompt.resize(20 + 60, 7);  // what Step samples
  prompt.resize(100, 9);
  Request second = Ask(2, 1);
  second.prompt = prompt;
  EXPECT_EQ(Run(std::move(second)), "2[64-99]* |");
}

TEST_F(SchedulerPrefixTest, BypassNeitherFindsNorLeavesAnything) {
  Request first = Ask(1, 70);
  first.bypass_prefix_cache = true;
  Run(std::move(first));
  EXPECT_EQ(scheduler().blocks().idle(), 0);
  EXPECT_EQ(Run(Ask(2, 70)), "2[0-69]* |");
  Request third = Ask(3, 70);
  third.bypass_prefix_cache = true;
  EXPECT_EQ(Run(std::move(third)), "3[0-69]* |");
}

TEST_F(SchedulerPrefixTest, WhatIsScoredIsComputed) {
  options_.limits.max_outputs = 128;
  Run(Ask(1, 70));
  Request scored = Ask(2, 70);
  scored.sampling.prompt_logprobs = 0;
  EXPECT_THAT(Run(std::move(scored)), testing::StartsWith("2[0-69]"));
}

TEST_F(SchedulerPrefixTest, AFaultLeavesNothing) {
  scheduler().Add(Ask(1, 70, 5));
  Schedule();
  Update(7, /*faulty=*/1);
  EXPECT_EQ(scheduler().blocks().idle(), 0);
  EXPECT_EQ(scheduler().tainted_blocks().size(), 3u);
  scheduler().TaintedBlocksCleared();
  EXPECT_EQ(Run(Ask(2, 70)), "2[0-69]* |");
}

// A later fault: what a sample has found sound before stays.
TEST_F(SchedulerPrefixTest, AFaultOfTheAnswerLeavesThePrompt) {
  scheduler().Add(Ask(1, 70, 5));
  Step();
  Schedule();
  Update(7, /*faulty=*/1);
  EXPECT_EQ(scheduler().blocks().idle(), 2);
  EXPECT_EQ(scheduler().tainted_blocks().size(), 1u);
}

TEST_F(SchedulerPrefixTest, MemoryIsThereForThoseWhoComputeNow) {
  options_.num_blocks = 6;
  for (RequestId id = 1; id <= 8; ++id) {
    Request request = Ask(id, 100);
    request.prompt.assign(100, static_cast<int32_t>(id));
    EXPECT_THAT(Run(std::move(request)), testing::HasSubstr("[0-99]"));
    EXPECT_EQ(scheduler().blocks().available(), 6);
  }
  EXPECT_EQ(scheduler().preemptions(), 0u);
}

TEST_F(SchedulerPrefixTest, PreemptionCostsLittle) {
  options_.num_blocks = 4;
  scheduler().Add(Ask(1, 31, 40));
  Request second = Ask(2, 30, 40);
  for (int32_t& token : second.prompt) token = 6;
  scheduler().Add(std::move(second));
  while (scheduler().preemptions() == 0) Step();
  std::string line;
  while ((line = Schedule()).find("2[") == std::string::npos) Update();
  EXPECT_EQ(line, "2[32-63]* |");
}

// A hold of which others found the first block alone still gives way.
TEST_F(SchedulerPrefixTest, AHoldThatIsSharedInPartGivesWay) {
  options_.num_blocks = 4;
  options_.max_running_sequences = 1;
  Request several = Ask(1, 97);
  several.sampling.n = 2;
  scheduler().Add(std::move(several));
  EXPECT_EQ(Step(), "1[0-96]* |");
  Request urgent = Ask(2, 120);
  std::fill(urgent.prompt.begin() + 32, urgent.prompt.end(), 6);
  urgent.priority = 1;
  scheduler().Add(std::move(urgent));
  EXPECT_EQ(Step(), "2[32-119]* |");
  EXPECT_EQ(Step(), "1.1[32-96]* |");
}

// Neither of two holds on a block frees it alone.
TEST_F(SchedulerPrefixTest, HoldsOnTheSameBlockGiveWayTogether) {
  options_.num_blocks = 3;
  options_.max_running_sequences = 1;
  for (RequestId id = 1; id <= 2; ++id) {
    Request several = Ask(id, 40);
    several.sampling.n = 2;
    several.priority = static_cast<int32_t>(id);
    scheduler().Add(std::move(several));
    Step();
  }
  EXPECT_EQ(scheduler().blocks().used(), 1);
  Request urgent = Ask(3, 70);
  std::fill(urgent.prompt.begin(), urgent.prompt.end(), 6);
  urgent.priority = 3;
  scheduler().Add(std::move(urgent));
  EXPECT_EQ(Step(), "3[0-69]* |");
}

// Several answers start on their prompt as before, and what they had in common
// is there for the next request.
TEST_F(SchedulerPrefixTest, SeveralAnswersLeaveOnePrompt) {
  Request request = Ask(1, 70, 4);
  request.sampling.n = 3;
  scheduler().Add(std::move(request));
  EXPECT_EQ(Step(), "1[0-69]* |");
  while (!scheduler().idle()) Step();
  EXPECT_EQ(scheduler().blocks().idle(), 2);
  EXPECT_EQ(Run(Ask(2, 70)), "2[64-69]* |");
}

}  // namespace
}  // namespace descant
