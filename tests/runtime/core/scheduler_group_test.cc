// Several answers to a request, scored prompts, min_tokens.
#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

class SchedulerGroupTest : public SchedulerFixture {
 protected:
  static Request Several(RequestId id, int32_t n, int32_t prompt,
                         int32_t max_tokens,
                         std::shared_ptr<const Adapter> adapter = nullptr) {
    Request request = Make(id, prompt, max_tokens, std::move(adapter));
    request.sampling.n = n;
    return request;
  }

  // Block tables of the scheduled batch, by sequence.
  std::vector<std::vector<int32_t>> Tables() {
    const Batch& batch = scheduler().batch();
    std::vector<std::vector<int32_t>> tables;
    for (const BatchSequence& s : batch.sequences) {
      const auto begin = batch.block_tables.begin() + s.block_begin;
      tables.emplace_back(begin, begin + s.block_count);
    }
    return tables;
  }
};

TEST_F(SchedulerGroupTest, AnswersStartOnThePromptsFullBlocks) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 3, 70, 4));
  EXPECT_EQ(scheduler().waiting(), 3);
  EXPECT_EQ(Step(), "1[0-69]* |");
  EXPECT_EQ(scheduler().waiting(), 2);
  EXPECT_EQ(scheduler().running(), 1);
  // Two blocks are shared; each computes the six rows of the third.
  EXPECT_EQ(Schedule(), "1[70]* 1.1[64-69]* 1.2[64-69]* |");
  const auto tables = Tables();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tables[i][0], tables[0][0]);
    EXPECT_EQ(tables[i][1], tables[0][1]);
    for (int j = 0; j < i; ++j) EXPECT_NE(tables[i][2], tables[j][2]);
  }
  EXPECT_EQ(scheduler().blocks().used(), 5);
  EXPECT_EQ(Update(), "1:2 1.1:1 1.2:1");
  Step();
  EXPECT_EQ(Schedule(), "1[72]* 1.1[71]* 1.2[71]* |");
  EXPECT_EQ(Update(), "1:4=length 1.1:3 1.2:3");
  EXPECT_EQ(scheduler().blocks().used(), 4);
  Schedule();
  EXPECT_EQ(Update(), "1.1:4=length 1.2:4=length");
  EXPECT_TRUE(scheduler().events().back().last);
  EXPECT_FALSE(scheduler().events().front().last);
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

TEST_F(SchedulerGroupTest, AShortPromptIsComputedByEach) {
  scheduler().Add(Several(1, 2, 5, 2));
  EXPECT_EQ(Step(), "1[0-4]* 1.1[0-4]* |");
}

// One block and one row: the others' only row is the one that samples.
TEST_F(SchedulerGroupTest, APromptOfOneBlockAndARow) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 2, 33, 2));
  Step();
  EXPECT_EQ(Step(), "1[33]* 1.1[32]* |");
}

TEST_F(SchedulerGroupTest, ThePromptOutlastsAnAnswerOfOneToken) {
  options_.limits.max_rows = 80;
  options_.max_running_sequences = 1;
  scheduler().Add(Several(1, 3, 64, 1));
  EXPECT_EQ(Step(), "1[0-63]* |");
  EXPECT_EQ(scheduler().blocks().used(), 1);
  EXPECT_EQ(Step(), "1.1[32-63]* |");
  EXPECT_EQ(Step(), "1.2[32-63]* |");
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

TEST_F(SchedulerGroupTest, AHoldGivesWayToThoseWhoNeedBlocks) {
  options_.limits.max_rows = 200;
  options_.max_running_sequences = 1;
  options_.num_blocks = 6;
  scheduler().Add(Several(1, 2, 64, 1));
  Request urgent = Make(2, 130, 2);
  urgent.priority = 1;
  EXPECT_EQ(Step(), "1[0-63]* |");
  EXPECT_EQ(scheduler().blocks().used(), 1);
  scheduler().Add(std::move(urgent));
  EXPECT_EQ(Step(), "2[0-129]* |");
  EXPECT_EQ(Step(), "2[130]* |");
  EXPECT_EQ(Step(), "1.1[32-63]* |");
  options_.num_blocks = 5;
  scheduler_ = nullptr;
  scheduler().Add(Several(1, 2, 64, 1));
  Step();
  urgent = Make(2, 130, 2);
  urgent.priority = 1;
  scheduler().Add(std::move(urgent));
  EXPECT_EQ(Step(), "2[0-129]* |");
  EXPECT_EQ(scheduler().blocks().used(), 5);
  Step();
  EXPECT_EQ(Step(), "1.1[0-63]* |");  // the whole prompt again
}

TEST_F(SchedulerGroupTest, APreemptedAnswerStartsOnThePromptAgain) {
  options_.limits.max_rows = 80;
  options_.num_blocks = 4;
  options_.limits.max_sequences = 2;
  scheduler().Add(Several(1, 2, 60, 40));
  Step();
  EXPECT_EQ(Step(), "1[60]* 1.1[32-59]* |");
  // Each has a block beside the shared one; the older one takes them all.
  std::string line;
  while (scheduler().preemptions() == 0) line = Step();
  EXPECT_EQ(scheduler().running(), 1);
  EXPECT_EQ(scheduler().blocks().used(), 4);
  while (scheduler().preempted() == 1) line = Step();
  EXPECT_THAT(line, testing::StartsWith("1.1[32-"));
}

TEST_F(SchedulerGroupTest, ThePromptIsChargedOnce) {
  options_.limits.max_rows = 80;
  Request request = Several(1, 4, 70, 9);
  request.tenant = "t";
  scheduler().Add(std::move(request));
  Step();
  Step();
  // 70 for the prompt, 2 for each of five tokens.
  EXPECT_EQ(scheduler().fairness().counter(0), 80 * kCounterUnit);
  EXPECT_EQ(scheduler().running(), 4);
}

TEST_F(SchedulerGroupTest, OneAnswerEndsTheOthersGoOn) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 3, 40, 9));
  Step();
  Step();
  scheduler().ClearEvents();
  scheduler().AbortChoice(1, 0, FinishReason::kStopString);
  scheduler().AbortChoice(1, 0, FinishReason::kStopString);
  EXPECT_EQ(Render(scheduler().events()), "1:2=string");
  EXPECT_EQ(Step(), "1.1[40]* 1.2[40]* |");
}

TEST_F(SchedulerGroupTest, AFaultEndsThemAll) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 3, 40, 9));
  Step();
  Step();
  scheduler().Add(Make(2, 3, 9));
  Schedule();
  EXPECT_EQ(Update(7, /*faulty=*/1), "1:2=error 1.1:1=error 1.2:1=error 2:1");
  EXPECT_EQ(scheduler().running(), 1);
  EXPECT_EQ(scheduler().blocks().used(), 1);
}

TEST_F(SchedulerGroupTest, CancellationAndDeadlineEndThoseToCome) {
  options_.limits.max_rows = 20;
  scheduler().Add(Several(1, 3, 40, 9));
  Step();
  EXPECT_EQ(scheduler().waiting(), 2);
  scheduler().ClearEvents();
  scheduler().Abort(1, FinishReason::kCancelled);
  EXPECT_EQ(Render(scheduler().events()), "1:0=cancelled");
  EXPECT_TRUE(scheduler().events().back().last);
  EXPECT_EQ(scheduler().waiting(), 0);
  EXPECT_TRUE(scheduler().idle());

  Request request = Several(2, 2, 40, 9);
  request.deadline = now_ + std::chrono::milliseconds(5);
  scheduler().Add(std::move(request));
  while (!scheduler().idle()) Step();
  EXPECT_EQ(Render(scheduler().events()), "2:3=deadline 2.1:2=deadline");
}

TEST_F(SchedulerGroupTest, APausedRequestIsPausedWhole) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 3, 40, 9));
  scheduler().Add(Make(2, 2, 9));
  Step();
  scheduler().SetPaused(1, true);
  EXPECT_EQ(Step(), "2[2]* |");
  scheduler().SetPaused(1, false);
  EXPECT_EQ(Step(), "1[40]* 2[3]* 1.1[32-39]* 1.2[32-39]* |");
}

TEST_F(SchedulerGroupTest, ABrokenAdapterEndsThemAll) {
  scheduler().Add(Several(1, 3, 4, 9, a_));
  now_ += std::chrono::milliseconds(1);
  EXPECT_TRUE(scheduler().Schedule(now_).empty());
  scheduler().SlotLoadFailed(0);
  EXPECT_EQ(Render(scheduler().events()), "1:0=error 1.1:0=error 1.2:0=error");
  EXPECT_TRUE(scheduler().batch().empty());
  EXPECT_TRUE(scheduler().idle());
  scheduler().CheckInvariants();
}

TEST_F(SchedulerGroupTest, AStepInFlightKeepsWhatItUses) {
  options_.limits.max_rows = 80;
  scheduler().Add(Several(1, 2, 40, 9));
  Step();
  Schedule();  // both
  Schedule();
  scheduler().ClearEvents();
  scheduler().Abort(1, FinishReason::kCancelled);
  EXPECT_EQ(Render(scheduler().events()), "1:1=cancelled 1.1:0=cancelled");
  EXPECT_EQ(scheduler().blocks().used(), 3);
  EXPECT_EQ(Update(), "");
  EXPECT_EQ(scheduler().blocks().used(), 3);
  EXPECT_EQ(Update(), "");
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

TEST_F(SchedulerGroupTest, AScoredPromptTakesTheSpareOutputs) {
  options_.limits.max_outputs = 7;  // three beyond one a sequence
  Request request = Make(1, 9, 9);
  request.sampling.prompt_logprobs = 0;
  scheduler().Add(std::move(request));
  scheduler().Add(Make(2, 12, 9));
  EXPECT_EQ(Schedule(), "1[0-3]^4 2[0-11]* |");
  EXPECT_EQ(Update(), "1:0^4 2:1");
  EXPECT_EQ(Schedule(), "1[4-7]^4 2[12]* |");
  Update();
  EXPECT_EQ(Schedule(), "1[8]* 2[13]* |");
  EXPECT_EQ(Update(), "1:1 2:3");
}

TEST_F(SchedulerGroupTest, AScoredPromptMovesWithoutSpareOutputs) {
  Request request = Several(1, 2, 3, 9);
  request.sampling.prompt_logprobs = 0;
  scheduler().Add(std::move(request));
  EXPECT_EQ(Step(), "1[0]^1 |");
  EXPECT_EQ(Step(), "1[1]^1 |");
  EXPECT_EQ(Step(), "1[2]* |");
  // The second answer scores nothing.
  EXPECT_EQ(Step(), "1[3]* 1.1[0-2]* |");
}

TEST_F(SchedulerGroupTest, WhatWasScoredIsNotScoredAgain) {
  options_.limits.max_outputs = 14;
  options_.limits.max_sequences = 4;
  Request request = Make(1, 15, 9);
  request.sampling.prompt_logprobs = 0;
  scheduler().Add(std::move(request));
  EXPECT_EQ(Step(), "1[0-10]^11 |");
  scheduler().SetPaused(1, true);
  // It gives up its place to others.
  for (RequestId id = 2; id <= 5; ++id) scheduler().Add(Make(id, 1, 2));
  Step();
  EXPECT_EQ(scheduler().preempted(), 1);
  scheduler().SetPaused(1, false);
  Step();
  EXPECT_EQ(Schedule(), "1[0-14]^3* |");
  EXPECT_EQ(Update(), "1:1^3");
}

TEST_F(SchedulerGroupTest, WhatEndsIsBannedBeforeMinTokens) {
  Request request = Make(1, 2, 9);
  request.sampling.min_tokens = 2;
  request.sampling.stop_token_ids = {3};
  scheduler().Add(std::move(request));
  for (int i = 0; i < 3; ++i) {
    Schedule();
    const std::vector<int32_t>* banned =
        scheduler().batch().sequences[0].banned;
    if (i < 2) {
      ASSERT_NE(banned, nullptr);
      EXPECT_THAT(*banned, testing::ElementsAre(3, kEos));
    } else {
      EXPECT_EQ(banned, nullptr);
    }
    Update();
  }
}

}  // namespace
}  // namespace descant
