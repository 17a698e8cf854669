// Where adapters are and how they move: disk, host memory, device slots.
#ifndef DESCANT_RUNTIME_ADAPTER_TIERS_H_
#define DESCANT_RUNTIME_ADAPTER_TIERS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "adapters/adapter_key.h"
#include "adapters/host_tier.h"
#include "runtime/adapter_loader.h"
#include "runtime/adapter_prefetch.h"
#include "runtime/adapter_residency.h"
#include "runtime/base/clock.h"
#include "runtime/core/scheduler.h"
#include "runtime/engine.h"

namespace descant {

// Carries out what the slot table decides: loads what was given a slot, frees
// what lost it, keeps images in host memory, fetches ahead. Decides itself only
// who makes room when the device's memory is full. Of the engine thread.
class AdapterTiers {
 public:
  // A load failed for good. slot: whose waiters have lost, if any; it loads no
  // more.
  using FailureListener = std::function<void(
      int32_t slot, const Adapter& adapter, const absl::Status& status)>;

  // All outlive it. `wake` is called from another thread when a load has ended;
  // not after Stop.
  AdapterTiers(Runner* runner, Scheduler* scheduler, const Clock* clock,
               const EngineOptions& options, FailureListener on_failure,
               std::function<void()> wake);

  // A request with the adapter came, or ended.
  void RequestAdded(const std::shared_ptr<const Adapter>& adapter);
  void RequestEnded(const Adapter& adapter);

  // Takes what loads brought since the last call, and begins prefetches.
  void EndLoads();
  // Loads the scheduler's slots_to_load().
  void BeginLoads();

  // Loads the slot's adapter, after SlotTable::BeginLoad.
  void LoadSlot(int32_t slot);
  // Into host memory. REQUIRES: CanFetch.
  void Fetch(const std::shared_ptr<const Adapter>& adapter);
  // Neither in host memory nor under way.
  bool CanFetch(AdapterKeyView key) const {
    return !OnHost(key) && !UnderWay(key);
  }
  bool has_host() const { return host_.capacity() > 0; }
  bool OnHost(AdapterKeyView key) const { return host_.Contains(key); }
  // A fetch or a load into a slot is.
  bool UnderWay(AdapterKeyView key) const { return flights_.contains(key); }

  // Frees the slot and its memory. The bytes that were freed. REQUIRES: it is
  // retired.
  uint64_t FreeRetired(int32_t slot);
  // Ends a prefetch of the adapter and takes its fetch back, if that has not
  // begun.
  void ForgetFetch(AdapterKeyView key);
  // Frees its host memory. The bytes that were freed.
  uint64_t DropHost(AdapterKeyView key);

  // There are steps to run, or were just now: loads leave them the cores.
  void SetStepsRun(bool run) { loader_.SetStepsRun(run); }
  // Waits for the load at hand, if any. Last of all.
  void Stop();

  // Grows with each change of what is in slots.
  uint64_t version() const { return version_; }
  void UpdateStats(EngineStats* stats) const;
  AdapterResidency& residency() { return residency_; }
  const AdapterResidency& residency() const { return residency_; }

 private:
  // What the loader is at.
  struct Flight {
    MonotonicTime host_wanted{};  // when the image was
    bool to_slot = false;
    MonotonicTime device_wanted{};  // when the slot was
  };
  // What is in the runner's slot, and while it loads, what is held for it.
  struct DeviceSlot {
    std::shared_ptr<const Adapter> adapter;  // null: nothing
    uint64_t bytes = 0;
    HostTier::Hold hold;
  };

  void EndLoad(LoadedAdapter* loaded);
  void KeepImage(const LoadedAdapter& loaded, const Flight& flight);
  void EndSlotLoad(LoadedAdapter* loaded, const Flight& flight);
  void FindRoom(LoadedAdapter* loaded);
  void Settle(LoadedAdapter* loaded);
  void Fail(const LoadedAdapter& loaded);
  bool OtherAdapterRuns(int32_t slot) const;
  void StartLoad(int32_t slot, std::shared_ptr<const Adapter> adapter,
                 std::shared_ptr<const AdapterImage> image);
  uint64_t UnloadSlot(int32_t slot);
  void BeginPrefetches();

  Runner* const runner_;
  Scheduler* const scheduler_;
  const Clock* const clock_;
  const FailureListener on_failure_;
  const std::function<void(AdapterLevel, Duration)> on_load_;
  AdapterResidency residency_;
  HostTier host_;
  std::vector<DeviceSlot> slots_;  // holds on host_, as prefetch_ has
  AdapterPrefetch prefetch_;
  AdapterKeyMap<Flight> flights_;
  std::vector<LoadedAdapter> done_;         // scratch
  std::vector<HostTier::Evicted> evicted_;  // scratch
  // Loads that found no room while others were under way: one more try each
  // when those have ended.
  std::vector<LoadedAdapter> parked_;
  int32_t slot_loads_ = 0;  // under way
  // The slot whose load began when nothing but pinned adapters was on the
  // device.
  int32_t alone_slot_ = -1;
  uint64_t loads_ = 0;
  uint64_t version_ = 0;
  AdapterLoader loader_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_TIERS_H_
