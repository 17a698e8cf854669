// How prefills are cut to leave decodes their time.
#include <algorithm>

#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

class SchedulerTimeTest : public SchedulerFixture {
 protected:
  SchedulerTimeTest() {
    options_.limits.max_rows = 128;
    options_.num_blocks = 64;
    options_.max_model_len = 2000;
    options_.limits.max_blocks_per_sequence = 64;
  }

  // Two that decode, and some steps to learn from.
  void Decode() {
    scheduler().Add(Make(1, 100, 1500));
    scheduler().Add(Make(2, 100, 1500));
    for (int i = 0; i < 40; ++i) TimedStep();
  }
};

TEST_F(SchedulerTimeTest, PrefillsLeaveDecodesTheirTarget) {
  options_.target_step_seconds = 0.040;
  Decode();
  scheduler().Add(Make(3, 900, 2));
  int steps = 0;
  int longest = 0;
  for (; scheduler().running() < 3 || scheduler().waiting() > 0; ++steps) {
    TimedStep();
  }
  while (scheduler().running() == 3) {
    longest = std::max(longest, TimedStep());
    ++steps;
  }
  EXPECT_LE(longest, 31) << "30 rows fit into 40 ms";
  EXPECT_GE(longest, 22);
  EXPECT_LE(steps, 60);
}

// However short the time: ceil(P / kMinPrefillRows) steps for P rows.
TEST_F(SchedulerTimeTest, PrefillsNeverStarve) {
  options_.target_step_seconds = 0.001;
  Decode();
  scheduler().Add(Make(3, 330, 1));
  scheduler().Add(Make(4, 330, 1));
  int steps = 0;
  while (scheduler().running() + scheduler().waiting() > 2) {
    EXPECT_EQ(TimedStep(), 2 + std::min(kMinPrefillRows, 660 - 16 * steps));
    ++steps;
  }
  EXPECT_EQ(steps, (660 + kMinPrefillRows - 1) / kMinPrefillRows);
}

TEST_F(SchedulerTimeTest, WithoutDecodesThereIsNobodyToWait) {
  options_.target_step_seconds = 0.001;
  scheduler().Add(Make(1, 128, 2));
  EXPECT_EQ(TimedStep(), 128);
}

TEST_F(SchedulerTimeTest, WithoutATargetNothingIsCut) {
  Decode();
  scheduler().Add(Make(3, 900, 2));
  EXPECT_EQ(TimedStep(), 128);
}

TEST_F(SchedulerTimeTest, PredictsOnceItHasSeenSomeSteps) {
  scheduler().Add(Make(1, 10, 50));
  Schedule();
  Update();
  EXPECT_EQ(scheduler().StepTook(0.020), 0);
  for (int i = 0; i < 20; ++i) TimedStep();
  Schedule();
  Update();
  EXPECT_NEAR(scheduler().StepTook(0.011), 0.011, 0.0005);
}

}  // namespace
}  // namespace descant
