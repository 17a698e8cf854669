// What the engine thread does: one step after the other. No thread of its own.
#ifndef DESCANT_RUNTIME_ENGINE_LOOP_H_
#define DESCANT_RUNTIME_ENGINE_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "runtime/adapter_actions.h"
#include "runtime/adapter_tiers.h"
#include "runtime/answer.h"
#include "runtime/base/clock.h"
#include "runtime/core/scheduler.h"
#include "runtime/engine.h"
#include "runtime/hot_merge.h"
#include "runtime/step_runner.h"

namespace descant {

// Used by one thread, except Validate.
class EngineLoop {
 public:
  // All outlive it. `wake` is called from another thread when there may be a
  // step to do that there was not before; not after StopLoads.
  EngineLoop(Runner* runner, const Tokenizer* tokenizer,
             SchedulerOptions scheduler, const EngineOptions& options,
             const Clock* clock, std::function<void()> wake);

  // See Scheduler::Validate. Thread-safe.
  absl::Status Validate(const Request& request) const {
    return scheduler_.Validate(request);
  }

  void Add(Request request, std::shared_ptr<TokenSink> sink);
  void Cancel(RequestId id);

  // See Engine::Manage.
  void Manage(AdapterAction action, std::shared_ptr<const Adapter> adapter,
              AdapterActions::Done done) {
    actions_.Add(action, std::move(adapter), std::move(done));
  }

  // See Engine::SetMergeMode and InspectMerges.
  absl::Status SetMergeMode(MergeMode mode,
                            const std::shared_ptr<const Adapter>& adapter);
  MergeReport Merges() const;

  // One step: take the adapters that were loaded, schedule, have others
  // loaded, launch, collect, deliver. False when there was nothing to compute.
  // With a runner that overlaps: schedule, collect the step before, launch;
  // its step is in flight on return.
  bool Step();

  // Waits for the load at hand, if any; actions end with `status`. Last of all;
  // no Step after it.
  void StopLoads(const absl::Status& status);

  // Ends every sequence with kError and `status`.
  void FailAll(const absl::Status& status);

  // Nobody waits for anything, and no step is in flight.
  bool idle() const {
    return answers_.empty() && step_runner_.in_flight() == nullptr;
  }
  int32_t waiting() const { return scheduler_.waiting(); }
  int64_t waiting_tokens() const { return scheduler_.waiting_tokens(); }

  const Scheduler& scheduler() const { return scheduler_; }

  // Thread-safe.
  const AdapterResidency& residency() const { return tiers_.residency(); }

  // Brings `stats` up to date; the adapter lists only where they changed.
  void UpdateStats(EngineStats* stats);

 private:
  bool MayScheduleAhead() const;
  // False: nothing to launch.
  bool Schedule(MonotonicTime now);
  // Whether one adapter's merged weights serve the scheduled step.
  void PlanMerge(const Batch& batch);
  // The step in flight.
  void Finish();
  // Blocks that faults left are had by nobody before. No step is in flight.
  void ClearTainted();
  void PollSinks();
  void LoadFailed(int32_t slot, const Adapter& adapter,
                  const absl::Status& status);
  // Hands the scheduler's events to the answers. `output` is what Update saw,
  // or null; `failure` explains kError.
  void Deliver(const StepOutput* output, const absl::Status& failure);
  absl::Status StatusOf(FinishReason reason, const absl::Status& failure);
  // `computed`: from its launch to its result.
  void CountStep(const Batch& batch, const StepOutput& output,
                 Duration computed);

  Runner* const runner_;
  const Tokenizer* const tokenizer_;
  const Clock* const clock_;
  Scheduler scheduler_;
  StepRunner step_runner_;
  const bool has_drafts_;     // steps may
  MonotonicTime step_began_;  // the one launched last
  MonotonicTime launched_;    // when
  int32_t steps_ahead_ = 0;   // since one was scheduled with nothing in flight
  bool drafted_ = false;      // that one had drafts
  absl::flat_hash_map<RequestId, std::unique_ptr<Answer>> answers_;
  EngineStats counts_;
  uint64_t adapter_lists_version_ = 0;  // grows when a sequence comes or goes
  uint64_t adapter_lists_seen_ = 0;
  int32_t last_running_ = 0;
  // With the scheduler's slots.
  AdapterTiers tiers_;
  AdapterActions actions_;
  std::unique_ptr<HotMerge> hot_merge_;  // null: off, or the runner can't
  const bool wants_hot_merge_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ENGINE_LOOP_H_
