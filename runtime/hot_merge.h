// Carries out what MergePolicy decides: rehearsals, builds, and which weights a
// step uses.
#ifndef DESCANT_RUNTIME_HOT_MERGE_H_
#define DESCANT_RUNTIME_HOT_MERGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "adapters/adapter_key.h"
#include "runtime/base/clock.h"
#include "runtime/core/batch.h"
#include "runtime/core/merge_policy.h"
#include "runtime/engine.h"
#include "runtime/merge_builder.h"
#include "runtime/model/runner.h"

namespace descant {

// Of the engine thread.
class HotMerge {
 public:
  // All outlive it. `memory` as in EngineOptions::merge_memory. `wake` is
  // called from another thread when Advance has something to do; not after
  // Stop.
  HotMerge(Runner* runner, const Clock* clock, uint64_t memory,
           std::function<void()> wake);

  // Takes what was built, drops and begins to build. Between steps, also where
  // none runs.
  void Advance();

  // The slot of the adapter that all rows of the batch use; kNoSlot: they don't
  // use one alone.
  static int32_t SlotOf(const Batch& batch);

  // The weights that the step is to use, which live until StepEnded; null:
  // as ever. May compute the batch to compare it: then the step must not be
  // left in flight (must_collect). REQUIRES: no step in flight; the batch's
  // rows use `adapter` alone.
  const MergedWeights* PlanStep(const Batch& batch,
                                const std::shared_ptr<const Adapter>& adapter);
  bool must_collect() const { return step_.rehearsal_seconds > 0; }
  // A step that was not planned, or the planned one, has ended after `seconds`,
  // 0 where they mean nothing.
  void StepEnded(const Batch& batch, double seconds);

  void SetStepsRun(bool run) { builder_.SetStepsRun(run); }

  // See Engine::SetMergeMode.
  absl::Status SetMode(MergeMode mode,
                       const std::shared_ptr<const Adapter>& adapter);
  MergeReport Report() const;
  void UpdateStats(MergeStats* stats) const;

  // Waits for the build at hand. Last of all.
  void Stop() { builder_.Stop(); }

 private:
  struct Known {
    // Who has the adapter decides how long it is there.
    std::weak_ptr<const Adapter> adapter;
    std::string name;
    uint64_t bytes = 0;  // of its merged weights
    std::shared_ptr<const MergedWeights> weights;
    LogprobDifference check;
    double saved_seconds = 0;  // of its record, that counts_ has
    bool wished = false;       // an operator's mode other than kAuto holds
  };
  // The step that was planned last.
  struct Step {
    std::shared_ptr<const Adapter> adapter;  // null: none was planned
    MergeStep how = MergeStep::kUnmerged;
    double rehearsal_seconds = 0;
    std::shared_ptr<const MergedWeights> weights;
  };

  double Now() const { return ToSeconds(clock_->Now().time_since_epoch()); }
  Known& KnownOf(const std::shared_ptr<const Adapter>& adapter);
  bool Rehearse(const Batch& batch, const MergedWeights* weights);
  void TakeBuilt();
  void Drop(AdapterKeyView key);
  void Check(AdapterKeyView key);
  void CountMerged();
  void EndWishesForGone();
  void ForgetOthers();

  Runner* const runner_;
  const Clock* const clock_;
  MergePolicy policy_;
  AdapterKeyMap<Known> known_;
  AdapterKey building_;
  MergePolicy::Decision decision_;  // scratch
  Step step_;
  bool last_merged_ = false;
  double next_look_for_gone_ = 0;
  double next_count_ = 0;
  MergeStats counts_;
  MergeBuilder builder_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_HOT_MERGE_H_
