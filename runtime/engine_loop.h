// What the engine thread does: one step after the other. No thread of its own.
#ifndef DESCANT_RUNTIME_ENGINE_LOOP_H_
#define DESCANT_RUNTIME_ENGINE_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "runtime/adapter_loader.h"
#include "runtime/answer.h"
#include "runtime/base/clock.h"
#include "runtime/core/scheduler.h"
#include "runtime/engine.h"

namespace descant {

// Used by one thread, except Validate.
class EngineLoop {
 public:
  // All outlive it. `wake` is called from another thread when there may be a
  // step to do that there was not before; not after StopLoads.
  EngineLoop(Runner* runner, const Tokenizer* tokenizer,
             SchedulerOptions options, const Clock* clock,
             std::function<void()> wake);

  // See Scheduler::Validate. Thread-safe.
  absl::Status Validate(const Request& request) const {
    return scheduler_.Validate(request);
  }

  void Add(Request request, std::shared_ptr<TokenSink> sink);
  void Cancel(RequestId id);

  // One step: take the adapters that were loaded, schedule, have others
  // loaded, launch, collect, deliver. False when there was nothing to compute.
  bool Step();

  // Waits for the load at hand, if any. Last of all; no Step after it.
  void StopLoads() { loader_.Stop(); }

  // Ends every sequence with kError and `status`.
  void FailAll(const absl::Status& status);

  bool idle() const { return answers_.empty(); }
  int32_t waiting() const { return scheduler_.waiting(); }
  int64_t waiting_tokens() const { return scheduler_.waiting_tokens(); }

  // Brings `stats` up to date; the adapter lists only where they changed.
  void UpdateStats(EngineStats* stats);

 private:
  void PollSinks();
  void BeginLoads();
  void EndLoads();
  void StartLoad(int32_t slot, std::shared_ptr<const Adapter> adapter);
  void EndLoad(LoadedSlot* loaded);
  void FindRoom(LoadedSlot* loaded);
  void FailLoad(const LoadedSlot& loaded);
  bool OtherAdapterRuns(int32_t slot) const;
  // Hands the scheduler's events to the answers. `output` is what Update saw,
  // or null; `failure` explains kError.
  void Deliver(const StepOutput* output, const absl::Status& failure);
  absl::Status StatusOf(FinishReason reason, const absl::Status& failure);

  Runner* const runner_;
  const Tokenizer* const tokenizer_;
  const Clock* const clock_;
  Scheduler scheduler_;
  absl::flat_hash_map<RequestId, std::unique_ptr<Answer>> answers_;
  std::vector<LoadedSlot> loaded_;  // scratch
  // Loads that found no room while others were under way: one more try each
  // when those have ended.
  std::vector<LoadedSlot> parked_;
  int32_t loads_in_flight_ = 0;
  int32_t alone_slot_ =
      -1;  // its load began when nothing else was on the device
  EngineStats counts_;
  uint64_t adapter_lists_version_ = 0;  // grows when a sequence comes or goes
  uint64_t adapter_lists_seen_ = 0;
  int32_t last_running_ = 0;
  AdapterLoader loader_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ENGINE_LOOP_H_
