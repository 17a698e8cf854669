// What a step holds: order, segments, budgets, preemption.
#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

using SchedulerTest = SchedulerFixture;

TEST_F(SchedulerTest, PrefillsThenDecodesToTheLength) {
  scheduler().Add(Make(1, 3, 3));
  EXPECT_EQ(Schedule(), "1[0-2]* |");
  EXPECT_EQ(Update(), "1:1");
  EXPECT_EQ(Schedule(), "1[3]* |");
  EXPECT_EQ(Update(), "1:2");
  EXPECT_EQ(Schedule(), "1[4]* |");
  EXPECT_EQ(Update(), "1:3=length");
  EXPECT_EQ(Schedule(), " |");
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
}

TEST_F(SchedulerTest, DecodesComeBeforeChunksBeforeNewSequences) {
  scheduler().Add(Make(1, 3, 9));
  EXPECT_EQ(Step(), "1[0-2]* |");
  scheduler().Add(Make(2, 40, 9));
  scheduler().Add(Make(3, 5, 9));
  EXPECT_EQ(Step(), "1[3]* 2[0-14] |");
  EXPECT_EQ(Step(), "1[4]* 2[15-29] |");
  EXPECT_EQ(Step(), "1[5]* 2[30-39]* 3[0-4]* |");
  EXPECT_EQ(Step(), "1[6]* 2[40]* 3[5]* |");
}

TEST_F(SchedulerTest, EachSlotIsOneSegmentAndTheBaseComesFirst) {
  Preload(b_);
  Preload(a_);
  scheduler().Add(Make(1, 2, 9, b_));
  scheduler().Add(Make(2, 2, 9, a_));
  scheduler().Add(Make(3, 2, 9));
  scheduler().Add(Make(4, 2, 9, b_));
  EXPECT_EQ(Step(), "3[0-1]* 1@0[0-1]* 4@0[0-1]* 2@1[0-1]* | 0:2-6 1:6-8");
  Schedule();
  EXPECT_EQ(Render(scheduler().batch()),
            "3[2]* 1@0[2]* 4@0[2]* 2@1[2]* | 0:1-3 1:3-4");
  ASSERT_THAT(scheduler().batch().output_segments, SizeIs(2));
  EXPECT_EQ(scheduler().batch().output_segments[0].row_begin, 1);
  EXPECT_EQ(scheduler().batch().output_segments[0].row_end, 3);
}

TEST_F(SchedulerTest, OutputSegmentsCountOutputsNotRows) {
  scheduler().Add(Make(1, 4, 9, a_));
  scheduler().Add(Make(2, 30, 9, b_));
  EXPECT_EQ(Schedule(), "1@0[0-3]* 2@1[0-11] | 0:0-4 1:4-16");
  ASSERT_THAT(scheduler().batch().output_segments, SizeIs(1));
  EXPECT_EQ(scheduler().batch().output_segments[0].slot, 0);
  EXPECT_EQ(scheduler().batch().output_segments[0].row_end, 1);
  EXPECT_THAT(scheduler().batch().output_rows, ElementsAre(3));
}

TEST_F(SchedulerTest, ARequestWithoutASlotIsPassedOver) {
  Preload(a_);
  Preload(b_);
  scheduler().Add(Make(1, 2, 3, a_));
  scheduler().Add(Make(2, 2, 9, b_));
  scheduler().Add(Make(3, 2, 9, c_));
  scheduler().Add(Make(4, 2, 9));
  EXPECT_EQ(Step(), "4[0-1]* 1@0[0-1]* 2@1[0-1]* | 0:2-4 1:4-6");
  EXPECT_EQ(Step(), "4[2]* 1@0[2]* 2@1[2]* | 0:1-2 1:2-3");
  EXPECT_EQ(Step(), "4[3]* 1@0[3]* 2@1[3]* | 0:1-2 1:2-3");
  EXPECT_EQ(Step(), "4[4]* 2@1[4]* | 1:1-2");  // while c loads
  EXPECT_EQ(Step(), "4[5]* 3@0[0-1]* 2@1[5]* | 0:1-3 1:3-4");
  EXPECT_EQ(scheduler().slots().evictions(), 1u);
}

TEST_F(SchedulerTest, AnAdapterThatWaitsIsServedThoughOthersKeepComing) {
  options_.limits.max_slots = 1;
  options_.limits.max_sequences = 12;
  options_.limits.max_outputs = 12;
  options_.max_running_sequences = 12;
  scheduler().Add(Make(1, 2, 8, a_));
  Step();
  scheduler().Add(Make(1000, 2, 8, b_));
  RequestId next = 2;
  int steps = 0;
  while (Step().find("1000@0") == std::string::npos) {
    ASSERT_LT(++steps, 200);
    scheduler().Add(Make(next++, 2, 8, a_));
  }
  EXPECT_GT(steps, 60);  // and before that, those on the hot slot ran
}

TEST_F(SchedulerTest, TheCapOnDistinctAdaptersHolds) {
  options_.max_adapters = 1;
  scheduler().Add(Make(1, 2, 2, a_));
  scheduler().Add(Make(2, 2, 2, b_));
  scheduler().Add(Make(3, 2, 2, a_));
  EXPECT_EQ(Step(), "1@0[0-1]* 3@0[0-1]* | 0:0-4");
  EXPECT_EQ(Step(), "1@0[2]* 3@0[2]* | 0:0-2");
  EXPECT_EQ(Step(), "2@1[0-1]* | 1:0-2");
}

TEST_F(SchedulerTest, ANameWithTwoVersionsTakesTwoSlots) {
  auto newer = std::make_shared<Adapter>(*a_);
  newer->digest = "sha256:other";
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Add(Make(2, 2, 9, newer));
  EXPECT_EQ(Step(), "1@0[0-1]* 2@1[0-1]* | 0:0-2 1:2-4");
}

TEST_F(SchedulerTest, ASlotThatCannotBeLoadedFailsItsSequencesOnly) {
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Add(Make(2, 2, 9, b_));
  scheduler().Add(Make(3, 2, 9, a_));
  EXPECT_TRUE(scheduler().Schedule(now_).empty());
  EXPECT_THAT(scheduler().slots_to_load(), ElementsAre(0, 1));
  scheduler().SlotLoaded(1);
  scheduler().SlotLoadFailed(0);
  scheduler().CheckInvariants();
  EXPECT_EQ(Render(scheduler().events()), "1:0=error 3:0=error");
  EXPECT_EQ(Step(), "2@1[0-1]* | 1:0-2");
  EXPECT_EQ(scheduler().slots().occupied(), 1);
}

TEST_F(SchedulerTest, ASlowLoadHoldsUpItsWaitersOnly) {
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Add(Make(2, 2, 9));
  scheduler().Add(Make(3, 2, 9, a_));
  EXPECT_EQ(Render(scheduler().Schedule(now_)), "2[0-1]* |");
  EXPECT_THAT(scheduler().slots_to_load(), ElementsAre(0));
  in_flight_.push_back(&scheduler().batch());
  Update();
  EXPECT_EQ(Render(scheduler().Schedule(now_)), "2[2]* |");
  EXPECT_TRUE(scheduler().slots_to_load().empty());  // once
  in_flight_.push_back(&scheduler().batch());
  Update();
  EXPECT_EQ(scheduler().waiting(), 2);
  scheduler().SlotLoaded(0);
  EXPECT_EQ(Step(), "2[3]* 1@0[0-1]* 3@0[0-1]* | 0:1-5");
}

TEST_F(SchedulerTest, TheRoomOfThoseWhoseAdapterLoadsIsKept) {
  options_.num_blocks = 4;
  options_.limits.max_rows = 128;
  scheduler().Add(Make(1, 60, 9, a_));
  scheduler().Add(Make(2, 60, 9));
  scheduler().Add(Make(3, 20, 9));
  // Two blocks for the first; the second would take more than is left, and
  // nobody overtakes it.
  EXPECT_EQ(Render(scheduler().Schedule(now_)), " |");
  scheduler().CheckInvariants();
  scheduler().SlotLoaded(0);
  EXPECT_EQ(Step(), "1@0[0-59]* | 0:0-60");
}

TEST_F(SchedulerTest, ALoadWhoseWaitersAreGoneIsKeptForOthers) {
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Schedule(now_);
  scheduler().Abort(1, FinishReason::kCancelled);
  scheduler().CheckInvariants();
  EXPECT_TRUE(scheduler().idle());
  EXPECT_TRUE(scheduler().slots().loading(0));
  scheduler().SlotLoaded(0);
  scheduler().CheckInvariants();
  scheduler().Add(Make(2, 2, 9, a_));
  EXPECT_EQ(Render(scheduler().Schedule(now_)), "2@0[0-1]* | 0:0-2");
}

TEST_F(SchedulerTest, APausedWaiterGivesItsSlotUp) {
  options_.limits.max_slots = 1;
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Schedule(now_);
  scheduler().SetPaused(1, true);
  scheduler().SlotLoaded(0);
  scheduler().Add(Make(2, 2, 9, b_));
  EXPECT_EQ(Step(), "2@0[0-1]* | 0:0-2");
  EXPECT_EQ(scheduler().slots().evictions(), 1u);
}

TEST_F(SchedulerTest, ADeferredSlotsSequencesComeBack) {
  scheduler().Add(Make(1, 2, 3, a_));
  Schedule();
  Update();
  scheduler().Add(Make(2, 2, 9, b_));
  scheduler().Schedule(now_);
  ASSERT_THAT(scheduler().slots_to_load(), ElementsAre(1));
  in_flight_.push_back(&scheduler().batch());
  scheduler().DeferSlot(1);
  scheduler().CheckInvariants();
  EXPECT_EQ(Update(), "1:2");
  // Not again while the other adapter runs.
  EXPECT_EQ(Schedule(), "1@0[3]* | 0:0-1");
  EXPECT_TRUE(scheduler().slots_to_load().empty());
  EXPECT_EQ(Update(), "1:3=length");
  EXPECT_EQ(Step(), "2@1[0-1]* | 1:0-2");
}

TEST_F(SchedulerTest, TheYoungestGivesItsBlocksAndResumesWithAllItsTokens) {
  options_.num_blocks = 4;
  options_.limits.max_rows = 128;
  scheduler().Add(Make(1, 31, 40));
  scheduler().Add(Make(2, 30, 40));
  EXPECT_EQ(Step(11), "1[0-30]* 2[0-29]* |");
  EXPECT_EQ(Step(12), "1[31]* 2[30]* |");
  EXPECT_EQ(Step(13), "1[32]* 2[31]* |");
  EXPECT_EQ(scheduler().blocks().used(), 3);
  EXPECT_EQ(Step(14), "1[33]* 2[32]* |");
  for (int i = 0; i < 30; ++i) Step(15);
  EXPECT_EQ(scheduler().preemptions(), 0u);
  EXPECT_EQ(Step(16), "1[64]* |");
  EXPECT_EQ(scheduler().preemptions(), 1u);
  EXPECT_EQ(scheduler().preempted(), 1);
  std::string line;
  while ((line = Schedule()).find("2[") == std::string::npos) Update(17);
  EXPECT_EQ(line, "2[0-63]* |");
  const Batch& batch = scheduler().batch();
  EXPECT_EQ(batch.tokens[30], 11);
  EXPECT_EQ(batch.tokens[31], 12);
  EXPECT_EQ(batch.tokens[63], 15);
  EXPECT_EQ(batch.sequences[0].generated, 34);
  EXPECT_EQ(Update(18), "2:35");
}

TEST_F(SchedulerTest, AnAloneSequenceEndsWhereTheCacheEnds) {
  options_.num_blocks = 1;
  options_.limits.max_rows = 64;
  scheduler().Add(Make(1, 30, 100));
  Step();
  EXPECT_EQ(Schedule(), "1[30]* |");
  EXPECT_EQ(Update(), "1:2=length");
}

TEST_F(SchedulerTest, EndsBeyondLengthAreEosAndStopTokens) {
  scheduler().Add(Make(1, 2, 9));
  Request ignoring = Make(2, 2, 9);
  ignoring.sampling.ignore_eos = true;
  scheduler().Add(std::move(ignoring));
  Request stopping = Make(3, 2, 9);
  stopping.sampling.ignore_eos = true;
  stopping.sampling.stop_token_ids = {4, kEos};
  scheduler().Add(std::move(stopping));
  Schedule();
  EXPECT_EQ(Update(kEos), "1:1=eos 2:1 3:1=stop(99)");
}

}  // namespace
}  // namespace descant
