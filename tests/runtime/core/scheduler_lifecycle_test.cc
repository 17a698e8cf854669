// Faults, deadlines, aborts, pauses, steps in flight, fairness, refusals.
#include "tests/runtime/core/scheduler_fixture.h"

namespace descant {
namespace {

using testing::SizeIs;

using SchedulerLifecycleTest = SchedulerFixture;

TEST_F(SchedulerLifecycleTest, ANumericFaultStaysInItsSequence) {
  scheduler().Add(Make(1, 2, 9));
  scheduler().Add(Make(2, 2, 9));
  Schedule();
  EXPECT_EQ(Update(7, /*faulty=*/1), "1:0=error 2:1");
  EXPECT_THAT(scheduler().tainted_blocks(), SizeIs(1));
  EXPECT_EQ(scheduler().blocks().free(), 14);
  scheduler().TaintedBlocksCleared();
  EXPECT_EQ(scheduler().blocks().free(), 15);
}

TEST_F(SchedulerLifecycleTest, AFailedStepFailsWhatWasInIt) {
  scheduler().Add(Make(1, 16, 9));
  scheduler().Add(Make(2, 2, 9));
  EXPECT_EQ(Schedule(), "1[0-15]* |");
  scheduler().ClearEvents();
  scheduler().FailStep();
  in_flight_.clear();
  EXPECT_EQ(Render(scheduler().events()), "1:0=error");
  EXPECT_EQ(Step(), "2[0-1]* |");
}

TEST_F(SchedulerLifecycleTest, ExpiredRequestsNeverRun) {
  Request request = Make(1, 2, 9);
  request.deadline = now_;
  scheduler().Add(std::move(request));
  Request later = Make(2, 2, 9);
  later.deadline = now_ + std::chrono::milliseconds(3);
  scheduler().Add(std::move(later));
  EXPECT_EQ(Schedule(), "2[0-1]* |");
  EXPECT_EQ(Render(scheduler().events()), "1:0=deadline");
  Update();
  EXPECT_EQ(Step(), "2[2]* |");
  EXPECT_EQ(Schedule(), " |");
  EXPECT_EQ(Render(scheduler().events()), "2:2=deadline");
}

TEST_F(SchedulerLifecycleTest, AbortFreesAtOnceAndOnlyOnce) {
  Preload(a_);
  scheduler().Add(Make(1, 2, 9, a_));
  scheduler().Add(Make(2, 40, 9));
  Step();
  scheduler().ClearEvents();
  scheduler().Abort(1, FinishReason::kCancelled);
  scheduler().Abort(1, FinishReason::kCancelled);
  scheduler().Abort(2, FinishReason::kStopString);
  scheduler().Abort(77, FinishReason::kCancelled);
  EXPECT_EQ(Render(scheduler().events()), "1:1=cancelled 2:0=string");
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().blocks().used(), 0);
  EXPECT_EQ(scheduler().slots().leased(), 0);
}

TEST_F(SchedulerLifecycleTest, APausedSequenceKeepsItsBlocks) {
  scheduler().Add(Make(1, 2, 9));
  scheduler().Add(Make(2, 2, 9));
  Step();
  scheduler().SetPaused(1, true);
  EXPECT_EQ(Step(), "2[2]* |");
  EXPECT_EQ(scheduler().blocks().used(), 2);
  scheduler().SetPaused(1, false);
  EXPECT_EQ(Step(), "1[2]* 2[3]* |");
}

TEST_F(SchedulerLifecycleTest, APausedSequenceMakesRoomForOneThatWaits) {
  options_.max_running_sequences = 1;
  scheduler().Add(Make(1, 2, 9));
  Step(21);
  scheduler().SetPaused(1, true);
  scheduler().Add(Make(2, 2, 2));
  EXPECT_EQ(Step(), "2[0-1]* |");
  EXPECT_EQ(Step(), "2[2]* |");
  scheduler().SetPaused(1, false);
  EXPECT_EQ(Schedule(), "1[0-2]* |");
  EXPECT_EQ(scheduler().batch().tokens[2], 21);
}

TEST_F(SchedulerLifecycleTest, AStepInFlightLeavesATokenOpen) {
  scheduler().Add(Make(1, 2, 3));
  EXPECT_EQ(Schedule(), "1[0-1]* |");
  EXPECT_EQ(Schedule(), "1[2]?* |");
  EXPECT_EQ(scheduler().batch().sequences[0].generated, 1);
  EXPECT_EQ(Update(31), "1:1");
  EXPECT_EQ(Schedule(), "1[3]?* |");
  EXPECT_EQ(Update(32), "1:2");
  EXPECT_EQ(Schedule(), " |");  // the third token is on its way
  EXPECT_EQ(Update(33), "1:3=length");
  EXPECT_TRUE(scheduler().idle());
}

TEST_F(SchedulerLifecycleTest, WhatAStepInFlightUsesIsKeptUntilItIsDone) {
  scheduler().Add(Make(1, 2, 9, a_));
  Schedule();
  Schedule();
  EXPECT_EQ(Update(kEos), "1:1=eos");
  EXPECT_EQ(scheduler().blocks().used(), 1);
  EXPECT_EQ(scheduler().slots().leased(), 1);
  EXPECT_EQ(Update(5), "");
  EXPECT_EQ(scheduler().blocks().used(), 0);
  EXPECT_EQ(scheduler().slots().leased(), 0);
}

TEST_F(SchedulerLifecycleTest, PriorityIsWithinATenantAndFairnessBetweenThem) {
  options_.max_running_sequences = 1;
  for (RequestId id = 1; id <= 4; ++id) {
    Request request = Make(id, 4, 1);
    request.tenant = "a";
    request.priority = id == 4 ? 9 : 0;
    scheduler().Add(std::move(request));
  }
  Request other = Make(5, 4, 1);
  other.tenant = "b";
  scheduler().Add(std::move(other));
  EXPECT_EQ(Step(), "4[0-3]* |");
  EXPECT_EQ(Step(), "5[0-3]* |");
  EXPECT_EQ(Step(), "1[0-3]* |");
  EXPECT_EQ(Step(), "2[0-3]* |");
}

TEST_F(SchedulerLifecycleTest, BackloggedTenantsStayWithinTheBound) {
  // One tenant with long requests on many adapters, one with short ones.
  options_.limits.max_slots = 4;
  const int32_t long_prompt = 60;
  const int32_t long_answer = 40;
  RequestId next = 1;
  int64_t served[2] = {0, 0};
  int waiting[2] = {0, 0};
  std::vector<int> tenant_of = {0};
  int64_t worst = 0;
  const int64_t bound = 2 * (kPromptTokenCost * long_prompt +
                             kOutputTokenCost * 4 * long_answer + kMaxLead);
  for (int step = 0; step < 4000; ++step) {
    for (int tenant = 0; tenant < 2; ++tenant) {
      while (waiting[tenant] < 6) {
        const bool heavy = tenant == 0;
        Request request =
            Make(next, heavy ? long_prompt : 3, heavy ? long_answer : 5,
                 MakeFakeAdapter(absl::StrCat(tenant, "-", next % 5)));
        request.tenant = heavy ? "heavy" : "light";
        tenant_of.push_back(tenant);
        ++next;
        scheduler().Add(std::move(request));
        ++waiting[tenant];
      }
    }
    Schedule();
    for (const BatchSequence& s : scheduler().batch().sequences) {
      const int tenant = tenant_of[s.id];
      const int32_t prompt = tenant == 0 ? long_prompt : 3;
      const bool first = s.computed_length == 0 && s.generated == 0;
      if (first) served[tenant] += kPromptTokenCost * prompt;
      if (first) --waiting[tenant];
      if (s.output == OutputKind::kTokens) served[tenant] += kOutputTokenCost;
    }
    Update();
    worst = std::max(worst, std::abs(served[0] - served[1]));
  }
  EXPECT_LE(worst, bound);
  EXPECT_GT(served[0] + served[1], 10000);
}

// A tenant that always has requests waiting.
struct BackloggedTenant {
  const char* name;
  int32_t weight;
  int32_t prompt;
  int32_t answer;
  int waiting = 0;
  int64_t served = 0;  // cost

  double share() const { return static_cast<double>(served) / weight; }
  // The most it can be ahead of anybody: one admission at the lowest counter,
  // and then the answers of all that run.
  double lead(int32_t running) const {
    return static_cast<double>(kPromptTokenCost * prompt +
                               kOutputTokenCost * running * answer) /
           weight;
  }
};

// The bound of runtime/README.md, for different weights and lengths, with all
// adapters loaded, without and with drafts.
class SchedulerBoundTest : public SchedulerFixture,
                           public testing::WithParamInterface<int32_t> {};

TEST_P(SchedulerBoundTest, WeightedTenantsStayWithinTheBound) {
  options_.limits.max_slots = 6;
  options_.limits.max_outputs = 16;
  options_.max_draft_tokens = GetParam();
  BackloggedTenant tenants[] = {
      {"heavy", 1, 60, 40}, {"light", 1, 3, 5}, {"paying", 3, 20, 20}};
  double bound = 0;
  for (const BackloggedTenant& tenant : tenants) {
    bound = std::max(bound, tenant.lead(options_.max_running_sequences));
    for (int i = 0; i < 2; ++i) {
      Preload(MakeFakeAdapter(absl::StrCat(tenant.name, "-", i)));
    }
  }
  RequestId next = 1;
  std::vector<BackloggedTenant*> tenant_of = {nullptr};
  double worst = 0;
  for (int step = 0; step < 6000; ++step) {
    for (BackloggedTenant& tenant : tenants) {
      for (; tenant.waiting < 6; ++tenant.waiting, ++next) {
        Request request =
            Make(next, tenant.prompt, tenant.answer,
                 MakeFakeAdapter(absl::StrCat(tenant.name, "-", next % 2)));
        request.tenant = tenant.name;
        request.tenant_weight = tenant.weight;
        tenant_of.push_back(&tenant);
        scheduler().Add(std::move(request));
      }
    }
    Schedule();
    for (const BatchSequence& s : scheduler().batch().sequences) {
      BackloggedTenant& tenant = *tenant_of[s.id];
      if (s.computed_length == 0 && s.generated == 0) {
        tenant.served += kPromptTokenCost * tenant.prompt;
        --tenant.waiting;
      }
    }
    Update();
    for (const SequenceEvent& event : scheduler().events()) {
      tenant_of[event.id]->served +=
          kOutputTokenCost * (event.end - event.begin);
    }
    for (const BackloggedTenant& a : tenants) {
      for (const BackloggedTenant& b : tenants) {
        worst = std::max(worst, a.share() - b.share());
      }
    }
  }
  EXPECT_LE(worst, bound);
  EXPECT_GT(tenants[0].share(), 4000);
  EXPECT_NEAR(tenants[1].share() / tenants[0].share(), 1, 0.05);
  EXPECT_NEAR(tenants[2].share() / tenants[0].share(), 1, 0.05);
  EXPECT_EQ(scheduler().speculation().drafts > 1000, GetParam() > 0);
}

INSTANTIATE_TEST_SUITE_P(Drafts, SchedulerBoundTest, testing::Values(0, 4));

// One tenant waits for its own share; the other's adapters still get slots,
// however long that takes.
TEST_F(SchedulerLifecycleTest, OnesOwnShareHoldsBackNobodyElse) {
  options_.limits.max_slots = 4;
  options_.num_blocks = 64;
  const auto adapter = [](const char* tenant, const char* name) {
    return MakeFakeAdapter(absl::StrCat(tenant, name), tenant);
  };
  const auto make = [&](RequestId id, const char* tenant, const char* name,
                        int32_t tokens) {
    Request request = Make(id, 2, tokens, adapter(tenant, name));
    request.tenant = tenant;
    return request;
  };
  // "b" has two slots before "a" comes: each has its share of four.
  Preload(adapter("b", "1"));
  Preload(adapter("b", "2"));
  scheduler().Add(make(1, "a", "1", 180));
  scheduler().Add(make(2, "a", "2", 180));
  Step();
  scheduler().Add(make(3, "a", "3", 2));  // waits for its own tenant's slots
  for (int i = 0; i < 100; ++i) Step();
  EXPECT_EQ(scheduler().waiting(), 1);
  // Behind it, one that needs a slot of its own tenant's.
  scheduler().Add(make(4, "b", "3", 2));
  Step();
  Step();
  Step();
  EXPECT_EQ(scheduler().waiting(), 1);
  EXPECT_EQ(scheduler().slots().evictions(), 1u);
  // But one of its own tenant that comes later waits with it, so that a slot
  // comes free.
  scheduler().Add(make(5, "a", "1", 2));
  Step();
  EXPECT_EQ(scheduler().waiting(), 2);
  scheduler().Abort(1, FinishReason::kCancelled);
  for (int i = 0; i < 6; ++i) Step();
  EXPECT_EQ(scheduler().waiting(), 0);
}

TEST_F(SchedulerLifecycleTest, RefusesWhatCanNeverRun) {
  const Scheduler& s = scheduler();
  EXPECT_TRUE(s.Validate(Make(1, 199, 1)).ok());
  EXPECT_EQ(ReasonOf(s.Validate(Make(1, 200, 1))), "PROMPT_TOO_LONG");
  EXPECT_EQ(ReasonOf(s.Validate(Make(1, 0, 1))), "PROMPT_EMPTY");
  EXPECT_EQ(ReasonOf(s.Validate(Make(1, 5, 0))), "MAX_TOKENS_INVALID");
}

TEST_F(SchedulerLifecycleTest, WithoutSlotsAdaptersAreRefused) {
  options_.limits.max_slots = 0;
  EXPECT_EQ(ReasonOf(scheduler().Validate(Make(1, 5, 1, a_))), "ADAPTERS_OFF");
}

}  // namespace
}  // namespace descant
