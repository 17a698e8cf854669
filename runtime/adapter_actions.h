// What operators ask of single adapters: loads, pins, unloads.
#ifndef DESCANT_RUNTIME_ADAPTER_ACTIONS_H_
#define DESCANT_RUNTIME_ADAPTER_ACTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "adapters/adapter_key.h"
#include "adapters/slot_table.h"
#include "runtime/adapter_tiers.h"
#include "runtime/core/scheduler.h"
#include "runtime/engine.h"

namespace descant {

// See Engine::Manage. Nothing blocks: Advance, once a step, looks what each
// action waits for. Of the engine thread.
class AdapterActions {
 public:
  using Done = std::function<void(const AdapterActionResult&)>;

  // Both outlive it.
  AdapterActions(AdapterTiers* tiers, Scheduler* scheduler)
      : tiers_(tiers), scheduler_(scheduler) {}

  void Add(AdapterAction what, std::shared_ptr<const Adapter> adapter,
           Done done);

  // Goes on with all, in the order they came, and tells those that are done.
  void Advance();

  // A load failed: those that wait for it fail. slot: kNoSlot for one into host
  // memory only.
  void LoadFailed(int32_t slot, const Adapter& adapter,
                  const absl::Status& status);

  // Ends all with `status`, and all pins.
  void FailAll(const absl::Status& status);

  // Whether there is one that is not done.
  bool pending() const { return !actions_.empty(); }

  int32_t pins() const { return static_cast<int32_t>(pins_.size()); }

 private:
  struct Action {
    AdapterAction what;
    std::shared_ptr<const Adapter> adapter;
    Done done;
    AdapterActionResult result;
    bool begun = false;
    bool fetched = false;  // kLoadHost: it had the image read
    bool ended = false;    // `result` is final
    bool pins = false;     // the pin is this action's, until it is loaded
    std::optional<SlotLease> lease;
    uint64_t deferred_at = 0;  // SlotTable::releases() + 1; 0: never
    int32_t passes = 0;        // without a slot
  };

  void Step(Action* action);
  void StepLoadHost(Action* action);
  void StepLoadDevice(Action* action);
  void BeginUnload(Action* action);
  void StepUnload(Action* action);
  // False: it can't be, and the action has ended.
  bool BeginPin(Action* action);
  bool LeaseSlot(Action* action);
  // Ends a pin of the adapter, done or under way.
  void EndPin(AdapterKeyView key);
  // Ends loads of the adapter that came before `action`.
  void EndLoads(const Action* action);
  void End(Action* action, absl::Status status);
  // The same, and of a pin that it would have become.
  void Fail(Action* action, const absl::Status& status);
  void TellEnded();

  AdapterTiers* const tiers_;
  Scheduler* const scheduler_;
  std::vector<std::unique_ptr<Action>> actions_;
  // Of pinned adapters; no lease while an action of its own still loads it.
  AdapterKeyMap<std::optional<SlotLease>> pins_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_ACTIONS_H_
