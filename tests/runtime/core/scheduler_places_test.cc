// One tenant's long queue beside the few requests of another.
#include <string>
#include <utility>

#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

class SchedulerPlacesTest : public SchedulerFixture {
 protected:
  SchedulerPlacesTest() {
    options_.limits.max_rows = 128;
    options_.limits.max_sequences = 16;
    options_.limits.max_outputs = 16;
    options_.limits.max_blocks_per_sequence = 64;
    options_.max_running_sequences = 16;
    options_.num_blocks = 512;
    options_.max_model_len = 2000;
  }

  void Add(RequestId id, const char* tenant, int32_t prompt,
           int32_t max_tokens) {
    Request request = Make(id, prompt, max_tokens);
    request.tenant = tenant;
    scheduler().Add(std::move(request));
  }

  int32_t Running(const std::string& tenant) {
    int32_t running = 0;
    scheduler().ForEachSequence([&](const Sequence& sequence) {
      running += sequence.state == SequenceState::kRunning &&
                 sequence.request().tenant == tenant;
    });
    return running;
  }

  // `heavy` has the machine to itself; the other is known, and what steps take.
  void Crowd() {
    Add(1, "light", 90, 20);
    while (!scheduler().idle()) TimedStep();
    for (RequestId id = 10; id < 60; ++id) Add(id, "heavy", 4, 1000);
    for (int i = 0; i < 20; ++i) TimedStep();
  }
};

TEST_F(SchedulerPlacesTest, SomeAreKeptForOthers) {
  Crowd();
  EXPECT_EQ(Running("heavy"), 14) << "of 16, one in eight is kept";
  Add(2, "light", 4, 1000);
  Schedule();
  Update();
  EXPECT_EQ(Running("light"), 1) << "at once";
}

TEST_F(SchedulerPlacesTest, AloneATenantHasThemAll) {
  for (RequestId id = 10; id < 60; ++id) Add(id, "heavy", 4, 1000);
  for (int i = 0; i < 20; ++i) TimedStep();
  EXPECT_EQ(Running("heavy"), 16);
}

TEST_F(SchedulerPlacesTest, DecodesTakeHalfOfTheTarget) {
  options_.target_step_seconds = 0.044;
  Crowd();
  EXPECT_EQ(Running("heavy"), 12) << "12 rows take 22 ms";
  Add(2, "light", 4, 1000);
  Schedule();
  Update();
  EXPECT_EQ(Running("light"), 1);
  EXPECT_EQ(Running("heavy"), 12);
}

TEST_F(SchedulerPlacesTest, HoweverShortTheTargetSomeRun) {
  options_.target_step_seconds = 0.001;
  Crowd();
  EXPECT_EQ(Running("heavy"), 8);
}

// However much of the machine is kept for tenants that run little: they get no
// more than they are due.
TEST_F(SchedulerPlacesTest, WhoIsHeldBackIsNotLeftBehind) {
  Crowd();
  RequestId next = 100;
  int64_t worst = 0;
  for (int step = 0; step < 2000; ++step) {
    // Much to compute, nothing that runs for long.
    while (scheduler().waiting() < 44) Add(next++, "light", 60, 1);
    Schedule();
    Update();
    int64_t counters[2] = {0, 0};
    scheduler().ForEachSequence([&](const Sequence& sequence) {
      counters[sequence.request().tenant == "light"] =
          scheduler().fairness().counter(sequence.tenant) / kCounterUnit;
    });
    worst = std::max(worst, counters[1] - counters[0]);
  }
  EXPECT_GT(worst, 0);
  EXPECT_LE(worst, kMaxLead + 60 + 2);
}

TEST_F(SchedulerPlacesTest, AShortPromptOvertakesALongOne) {
  Add(1, "heavy", 900, 4);
  Step();
  Add(2, "light", 40, 4);
  EXPECT_EQ(Step(), "1[128-215] 2[0-39]* |");
  EXPECT_EQ(Step(), "1[216-342] 2[40]* |");
}

TEST_F(SchedulerPlacesTest, WhoGotMoreOvertakesNobody) {
  Add(1, "heavy", 900, 4);
  Step();
  Add(2, "heavy", 40, 4);
  Schedule();
  EXPECT_EQ(scheduler().running(), 1);
  Update();
}

// A tenant that runs less than its share has its prompt computed in a step of
// twice the target.
TEST_F(SchedulerPlacesTest, WhoRunsLittleMayCatchUp) {
  options_.target_step_seconds = 0.050;
  Crowd();
  Add(2, "light", 60, 4);
  Schedule();
  EXPECT_GE(scheduler().batch().rows(), Running("heavy") + 60);
  Update();
  Add(3, "heavy", 60, 4);
  Schedule();
  EXPECT_LE(scheduler().batch().rows(), 40);
  Update();
}

}  // namespace
}  // namespace descant
