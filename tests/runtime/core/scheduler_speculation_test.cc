// What the scheduler makes of drafts.
#include <utility>
#include <vector>

#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

class SchedulerSpeculationTest : public SchedulerFixture {
 protected:
  SchedulerSpeculationTest() {
    options_.limits.max_outputs = 16;
    options_.max_draft_tokens = 3;
  }

  // The step in flight samples these for request 1.
  std::string UpdateWith(const std::vector<int32_t>& tokens) {
    return Update([&](RequestId, int32_t i) { return tokens.at(i); }, 0);
  }

  // Request 1, three equal tokens into its answer: the next step has drafts.
  void Begin(int32_t max_tokens = 50) {
    scheduler().Add(Make(1, 4, max_tokens));
    for (int i = 0; i < 3; ++i) Step();
  }
};

TEST_F(SchedulerSpeculationTest, RightDraftsAreTokensOfTheAnswer) {
  scheduler().Add(Make(1, 4, 50));
  EXPECT_EQ(Step(), "1[0-3]* |");
  EXPECT_EQ(Step(), "1[4]* |");
  EXPECT_EQ(Step(), "1[5]* |");
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  EXPECT_EQ(Update(), "1:7");
  EXPECT_EQ(scheduler().events()[0].draft_tokens, 3);
  EXPECT_EQ(scheduler().events()[0].accepted_draft_tokens, 3);
  EXPECT_EQ(Schedule(), "1[10+3]* |");
  EXPECT_EQ(Update(), "1:11");
  EXPECT_EQ(scheduler().speculation().drafts, 2u);
  EXPECT_EQ(scheduler().speculation().draft_tokens, 6u);
  EXPECT_EQ(scheduler().speculation().accepted_draft_tokens, 6u);
}

TEST_F(SchedulerSpeculationTest, WhatRestsOnAWrongDraftIsNotThere) {
  Begin();
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  EXPECT_EQ(UpdateWith({7, 8}), "1:5");
  EXPECT_EQ(scheduler().events()[0].accepted_draft_tokens, 1);
  EXPECT_EQ(Schedule(), "1[8]* |");  // 7 8 never occurred
  Update();
}

TEST_F(SchedulerSpeculationTest, AnAnswerEndsWithinADraft) {
  Request request = Make(1, 0, 50);
  request.prompt = {1, 2, 3, kEos, 4, 9, 1};
  scheduler().Add(std::move(request));
  Step(2);
  EXPECT_EQ(Schedule(), "1[7+3]* |");
  EXPECT_EQ(UpdateWith({3, kEos, 4, 9}), "1:3=eos");
  EXPECT_EQ(scheduler().events()[0].stop_token, kEos);
  EXPECT_EQ(scheduler().events()[0].end - scheduler().events()[0].begin, 2);
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

TEST_F(SchedulerSpeculationTest, NoDraftGoesBeyondMaxTokens) {
  Begin(/*max_tokens=*/6);
  EXPECT_EQ(Schedule(), "1[6+2]* |");
  EXPECT_EQ(Update(), "1:6=length");
}

TEST_F(SchedulerSpeculationTest, RequestsMayWantFewerOrNone) {
  Request none = Make(1, 4, 50);
  none.max_draft_tokens = 0;
  scheduler().Add(std::move(none));
  Request one = Make(2, 4, 50);
  one.max_draft_tokens = 1;
  scheduler().Add(std::move(one));
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_EQ(Schedule(), "1[6]* 2[6+1]* |");
  Update();
}

// Decodes, prefills and new sequences come first; what is left goes round.
TEST_F(SchedulerSpeculationTest, DraftsGetTheRowsThatAreLeft) {
  options_.limits.max_rows = 8;
  for (RequestId id = 1; id <= 3; ++id) scheduler().Add(Make(id, 2, 50));
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_EQ(Schedule(), "1[4+2]* 2[4+2]* 3[4+1]* |");
  Update();
  scheduler().Add(Make(4, 4, 50));
  EXPECT_EQ(Schedule(), "1[7+1]* 2[7]* 3[6]* 4[0-3]* |");
  Update();
  EXPECT_EQ(Schedule(), "1[9+2]* 2[8+1]* 3[7+1]* 4[4]* |");
  Update();
}

TEST_F(SchedulerSpeculationTest, DraftsGetTheOutputsThatAreLeft) {
  options_.limits.max_outputs = 6;  // two beyond one a sequence
  Begin();
  EXPECT_EQ(Schedule(), "1[6+2]* |");
  Update();
}

TEST_F(SchedulerSpeculationTest, AnAdaptersRowsStayOneSegment) {
  scheduler().Add(Make(1, 4, 50, a_));
  scheduler().Add(Make(2, 4, 50, a_));
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_EQ(Schedule(), "1@0[6+3]* 2@0[6+3]* | 0:0-8");
  const Batch& batch = scheduler().batch();
  ASSERT_EQ(batch.output_segments.size(), 1u);
  EXPECT_EQ(batch.output_segments[0].row_end, 8);
  Update();
}

TEST_F(SchedulerSpeculationTest, BlocksOfWrongDraftsAreGivenBack) {
  scheduler().Add(Make(1, 28, 50));
  for (int i = 0; i < 4; ++i) Step();  // the prompt takes two
  EXPECT_EQ(scheduler().blocks().used(), 1);
  EXPECT_EQ(Schedule(), "1[30+3]* |");
  EXPECT_EQ(scheduler().blocks().used(), 2);
  UpdateWith({9});
  EXPECT_EQ(scheduler().blocks().used(), 1);
  EXPECT_EQ(Schedule(), "1[31]* |");
  Update();
}

TEST_F(SchedulerSpeculationTest, DraftsTakeNobodysBlock) {
  options_.num_blocks = 2;
  options_.limits.max_blocks_per_sequence = 2;
  options_.max_model_len = 64;
  scheduler().Add(Make(1, 28, 30));
  while (scheduler().batch().empty() ||
         scheduler().batch().positions.back() < 28) {
    Step();
  }
  // The last block may be needed by whoever runs.
  EXPECT_THAT(Schedule(), testing::AnyOf("1[29]* |", "1[29+2]* |"));
  EXPECT_EQ(scheduler().blocks().used(), 1);
  Update();
}

TEST_F(SchedulerSpeculationTest, TenantsPayForTokensNotForDrafts) {
  Begin();
  const int64_t before = scheduler().fairness().counter(0);
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  UpdateWith({7, 9});
  EXPECT_EQ(scheduler().fairness().counter(0) - before,
            2 * kOutputTokenCost * kCounterUnit);
}

// P8, in the middle of a draft.
TEST_F(SchedulerSpeculationTest, CancelledWithDraftsInFlight) {
  Begin();
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  scheduler().Abort(1, FinishReason::kCancelled);
  Update();
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

// How many tokens it gives isn't known yet.
TEST_F(SchedulerSpeculationTest, NoOtherStepWhileDraftsAreInFlight) {
  Begin();
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  EXPECT_EQ(Schedule(), " |");
  EXPECT_EQ(Update(), "1:7");
  // And no drafts behind a token that isn't known.
  EXPECT_EQ(Schedule(), "1[10+3]* |");
  UpdateWith({9});
  Schedule();
  EXPECT_EQ(Schedule(), "1[12]?* |");
}

// A guess may be what gives a value that is not finite.
TEST_F(SchedulerSpeculationTest, AFaultWithDraftsIsTriedAgainWithout) {
  Begin();
  EXPECT_EQ(Schedule(), "1[6+3]* |");
  EXPECT_EQ(Update(7, /*faulty=*/1), "");
  EXPECT_EQ(Schedule(), "1[6]* |");
  EXPECT_EQ(Update(), "1:4");
  EXPECT_EQ(Schedule(), "1[7]* |");
  EXPECT_EQ(Update(7, /*faulty=*/1), "1:4=error");
}

// DESCANT_SIM_SEED=14566: a sequence is computed again up to its last row, and
// that one has drafts and a fault.
TEST_F(SchedulerSpeculationTest, WhatNoSampleFoundSoundIsNotCached) {
  options_.prefix_cache = true;
  options_.num_blocks = 2;
  options_.max_running_sequences = 1;
  options_.limits.max_rows = 38;
  scheduler().Add(Make(1, 36, 20));
  for (int i = 0; i < 3; ++i) Step();
  scheduler().SetPaused(1, true);
  Request other = Make(2, 0, 1);
  other.prompt.assign(33, 6);
  scheduler().Add(std::move(other));
  EXPECT_EQ(Step(), "2[0-32]* |");
  scheduler().SetPaused(1, false);
  EXPECT_EQ(Schedule(), "1[0-37] |");
  Update();
  EXPECT_EQ(Schedule(), "1[38+3]* |");
  EXPECT_EQ(Update(7, /*faulty=*/1), "");
  EXPECT_EQ(Schedule(), "1[38]* |");
  EXPECT_EQ(Update(7, /*faulty=*/1), "1:3=error");
  EXPECT_EQ(scheduler().blocks().idle(), 0);
  EXPECT_EQ(scheduler().tainted_blocks().size(), 2u);
}

TEST_F(SchedulerSpeculationTest, WrongGuessesEndDraftsRightOnesBringThemBack) {
  options_.max_model_len = 256;
  scheduler().Add(Make(1, 4, 190));
  // Always a beginning that was there before, and never what followed it.
  for (int32_t i = 0; i < 60; ++i) {
    Schedule();
    UpdateWith({i % 3 == 2 ? 10 + i : 5, 0, 0, 0});
  }
  const SpeculationCounts wasted = scheduler().speculation();
  EXPECT_LT(wasted.draft_tokens, 60u);
  for (int i = 0; i < 30; ++i) Step(5);
  EXPECT_GT(scheduler().speculation().accepted_draft_tokens,
            wasted.accepted_draft_tokens + 20);
}

TEST_F(SchedulerSpeculationTest, NoDraftsWhereARowCostsAsMuchAsAStep) {
  scheduler().Add(Make(1, 4, 100));
  for (int i = 0; i < 20; ++i) {
    Schedule();
    const int32_t rows = scheduler().batch().rows();
    Update();
    scheduler().StepTook(0.010 * rows);
  }
  const uint64_t tried = scheduler().speculation().draft_tokens;
  EXPECT_LT(tried, 20u);
  for (int i = 0; i < 20; ++i) Step();
  EXPECT_EQ(scheduler().speculation().draft_tokens, tried);
}

TEST_F(SchedulerSpeculationTest, SeveralAnswersGuessEachForItself) {
  Request request = Make(1, 4, 50);
  request.sampling.n = 2;
  scheduler().Add(std::move(request));
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_EQ(Schedule(), "1[6+3]* 1.1[6+3]* |");
  Update();
}

}  // namespace
}  // namespace descant
