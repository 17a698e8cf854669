#include "tests/sim/simulation.h"

namespace descant {

Simulation::Simulation(uint64_t seed)
    : random_(seed),
      later_(seed ^ 0x9e3779b97f4a7c15),
      for_drafts_(seed ^ 0xbf58476d1ce4e5b9) {
  FakeRunnerOptions runner;
  runner.num_blocks = Pick(2, 24);
  runner.limits.max_rows = Pick(4, 80);
  runner.limits.max_sequences = Pick(1, 10);
  runner.limits.max_outputs =
      runner.limits.max_sequences + (Chance(50) ? Pick(0, 40) : 0);
  runner.limits.max_blocks_per_sequence = Pick(2, 12);
  runner.limits.max_slots = Pick(1, 5);
  runner.arena_adapters = Chance(30) ? Pick(1, 3) : 100;
  runner.repeats = PickForDrafts(0, 9) < 7 ? PickForDrafts(30, 100) : 0;
  runner_ = std::make_unique<FakeRunner>(runner);

  SchedulerOptions options;
  options.limits = runner.limits;
  options.num_blocks = runner.num_blocks;
  options.max_model_len = Pick(40, 400);
  options.max_running_sequences = Pick(1, 10);
  options.max_adapters = Chance(30) ? Pick(1, 3) : 0;
  options.eos_token_ids = kEos;
  options.prefix_cache = Chance(80);
  if (PickLater(0, 2) == 0) {
    options.target_step_seconds = PickLater(3, 40) / 1e3;
  }
  if (PickForDrafts(0, 9) < 7) {
    options.max_draft_tokens = PickForDrafts(1, kMaxDraftTokens);
  }
  scheduler_ = std::make_unique<Scheduler>(options);
  fairness_ = std::make_unique<FairnessBound>(options.max_adapters);
  scheduler_->slots().SetEvictionListener(
      [this](int32_t slot, const Adapter& wanted) {
        CheckEviction(slot, wanted);
      });

  pipelined_ = Chance(40);
  faults_ = Chance(30);
  pauses_ = Chance(40);
  slow_loads_ = Chance(60);
  operated_ = Chance(50);
  MakeClients();
}

void Simulation::Run() {
  for (step_ = 0; !Done() && step_ < kMaxSteps; ++step_) {
    now_ += std::chrono::milliseconds(1);
    Disturb();
    scheduler_->CheckInvariants();
    if (pipelined_) {
      PipelinedStep();
    } else {
      PlainStep();
    }
    scheduler_->CheckInvariants();
    CheckLimits();
  }
  EXPECT_TRUE(Done()) << "starved: " << Unfinished();
  for (SlotLease& pin : pins_) {
    scheduler_->slots().SetPinned(pin.slot(), false);
  }
  pins_.clear();
  for (auto& [id, client] : clients_) CheckAnswer(client);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(scheduler_->running(), 0);
  EXPECT_EQ(scheduler_->waiting(), 0);
  scheduler_->TaintedBlocksCleared();
  EXPECT_EQ(scheduler_->blocks().available(), scheduler_->blocks().total());
  EXPECT_EQ(scheduler_->slots().leased(), 0);
  EXPECT_THAT(runner_->violations(), testing::IsEmpty());
  EXPECT_GE(runner_->draft_rows(), speculation().draft_tokens);
  EXPECT_EQ(drafted_, speculation().draft_tokens);
  EXPECT_EQ(accepted_, speculation().accepted_draft_tokens);
}

void Simulation::Finish() {
  const auto output = runner_->Collect();
  in_flight_ = false;
  if (output.ok()) {
    scheduler_->Update(**output);
    Take(*output);
    // A machine of 4 ms and 0.5 ms a row, unsteady.
    scheduler_->StepTook((4 + 0.5 * launched_rows_) * PickLater(80, 130) / 1e5);
  } else {
    scheduler_->FailStep();
    Take(nullptr);
  }
}

void Simulation::ClearTainted() {
  runner_->ClearBlocks(scheduler_->tainted_blocks());
  scheduler_->TaintedBlocksCleared();
}

void Simulation::Launch() {
  const Batch& batch = scheduler_->batch();
  if (faults_ && Chance(1)) runner_->failing_steps.insert(batch.step);
  writers_.Check(
      batch, [this](RequestId id) { return clients_.at(id).request.tenant; });
  EXPECT_TRUE(runner_->Launch(batch).ok());
  launched_rows_ = batch.rows();
  in_flight_ = true;
}

void Simulation::PlainStep() {
  ClearTainted();
  EndLoads();
  if (operated_) Operate();
  fairness_->BeforePass(*scheduler_);
  scheduler_->Schedule(now_);
  fairness_->AfterPass(*scheduler_);
  Take(nullptr);
  BeginLoads();
  scheduler_->CheckInvariants();
  if (scheduler_->batch().empty()) return;
  Launch();
  Finish();
}

// The next step is scheduled before the last one's tokens are known.
void Simulation::PipelinedStep() {
  EndLoads();
  if (operated_ && !in_flight_) Operate();
  fairness_->BeforePass(*scheduler_);
  scheduler_->Schedule(now_);
  fairness_->AfterPass(*scheduler_);
  Take(nullptr);
  BeginLoads();
  scheduler_->CheckInvariants();
  if (Chance(5) && !clients_.empty()) {
    scheduler_->AbortChoice(Pick(1, static_cast<int32_t>(clients_.size())),
                            Pick(0, 2), FinishReason::kStopString);
    Take(nullptr);
  }
  if (in_flight_) Finish();
  ClearTainted();
  if (!scheduler_->batch().empty()) Launch();
}

}  // namespace descant
