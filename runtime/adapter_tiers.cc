#include "runtime/adapter_tiers.h"

#include <optional>
#include <utility>

#include "runtime/base/log.h"

namespace descant {
namespace {

// Adapters fetched ahead that wait for their turn, or are under way.
constexpr int32_t kMaxPrefetches = 8;

}  // namespace

AdapterTiers::AdapterTiers(Runner* runner, Scheduler* scheduler,
                           const Clock* clock, const EngineOptions& options,
                           FailureListener on_failure,
                           std::function<void()> wake)
    : runner_(runner),
      scheduler_(scheduler),
      clock_(clock),
      on_failure_(std::move(on_failure)),
      on_load_(options.on_adapter_load),
      residency_(options.on_residency),
      host_(options.host_adapter_bytes),
      slots_(scheduler->slots().num_slots()),
      prefetch_(kMaxPrefetches),
      loader_(runner, std::move(wake)) {}

void AdapterTiers::RequestAdded(const std::shared_ptr<const Adapter>& adapter) {
  const AdapterKeyView key = KeyOf(*adapter);
  const bool fetch = host_.capacity() > 0 && !OnHost(key) &&
                     !scheduler_->slots().Find(key).has_value();
  prefetch_.Add(adapter, fetch);
  if (fetch) BeginPrefetches();
}

void AdapterTiers::RequestEnded(const Adapter& adapter) {
  const AdapterKeyView key = KeyOf(adapter);
  if (!prefetch_.Remove(key)) return;
  if (loader_.Forget(key)) flights_.erase(key);
}

void AdapterTiers::BeginPrefetches() {
  const SlotTable& slots = scheduler_->slots();
  while (const std::shared_ptr<const Adapter> adapter =
             prefetch_.Next([&slots](const Adapter& candidate) {
               const auto slot = slots.Find(KeyOf(candidate));
               return slot.has_value() && slots.retiring(*slot);
             })) {
    const AdapterKeyView key = KeyOf(*adapter);
    if (OnHost(key)) {
      prefetch_.Fetched(key, host_.Peek(key));
    } else if (!UnderWay(key)) {
      Fetch(adapter);
    }
  }
}

void AdapterTiers::Fetch(const std::shared_ptr<const Adapter>& adapter) {
  Flight flight;
  flight.host_wanted = clock_->Now();
  flights_.emplace(AdapterKey(*adapter), flight);
  loader_.Fetch(adapter);
}

void AdapterTiers::BeginLoads() {
  // The bytes of what they held before must not crowd out the first one.
  for (const int32_t slot : scheduler_->slots_to_load()) UnloadSlot(slot);
  for (const int32_t slot : scheduler_->slots_to_load()) LoadSlot(slot);
}

void AdapterTiers::LoadSlot(int32_t slot) {
  UnloadSlot(slot);
  const std::shared_ptr<const Adapter>& adapter =
      scheduler_->slots().adapter(slot);
  const AdapterKeyView key = KeyOf(*adapter);
  slots_[slot].hold = host_.Find(key);
  prefetch_.End(key);
  const MonotonicTime now = clock_->Now();
  const auto [it, inserted] = flights_.try_emplace(AdapterKey(*adapter));
  Flight& flight = it->second;
  if (inserted) flight.host_wanted = now;
  flight.device_wanted = now;
  flight.to_slot = true;
  StartLoad(slot, adapter, slots_[slot].hold.image());
}

void AdapterTiers::StartLoad(int32_t slot,
                             std::shared_ptr<const Adapter> adapter,
                             std::shared_ptr<const AdapterImage> image) {
  const SlotTable& slots = scheduler_->slots();
  bool alone = slot_loads_ == 0;
  for (int32_t other = 0; other < slots.num_slots(); ++other) {
    alone = alone && (!slots.loaded(other) || slots.pinned(other));
  }
  if (alone) alone_slot_ = slot;
  ++slot_loads_;
  loader_.Load(slot, std::move(adapter), std::move(image));
}

void AdapterTiers::EndLoads() {
  loader_.TakeDone(&done_);
  for (LoadedAdapter& loaded : done_) EndLoad(&loaded);
  const bool any = !done_.empty();
  done_.clear();
  if (any && slot_loads_ == 0 && !parked_.empty()) {
    LoadedAdapter parked = std::move(parked_.front());
    parked_.erase(parked_.begin());
    const int32_t slot = parked.slot;
    FindRoom(&parked);
    if (!scheduler_->slots().loading(slot)) Settle(&parked);
  }
  BeginPrefetches();
}

void AdapterTiers::EndLoad(LoadedAdapter* loaded) {
  const AdapterKeyView key = KeyOf(*loaded->adapter);
  const auto found = flights_.find(key);
  const Flight flight = found->second;
  if (loaded->packed) KeepImage(*loaded, flight);
  if (loaded->slot != kNoSlot) return EndSlotLoad(loaded, flight);
  // It ended just before it was wanted in a slot: that load is still to come.
  if (flight.to_slot) return;
  flights_.erase(found);
  if (loaded->status.ok()) return;
  prefetch_.End(key);
  on_failure_(kNoSlot, *loaded->adapter, loaded->status);
}

void AdapterTiers::KeepImage(const LoadedAdapter& loaded,
                             const Flight& flight) {
  const AdapterKeyView key = KeyOf(*loaded.adapter);
  if (on_load_) {
    on_load_(AdapterLevel::kHost, clock_->Now() - flight.host_wanted);
  }
  HostTier::Hold hold = host_.Insert(key, loaded.image, &evicted_);
  for (HostTier::Evicted& evicted : evicted_) {
    residency_.LeaveHost(evicted.key);
    loader_.Discard(std::move(evicted.image));
  }
  evicted_.clear();
  if (!hold.kept()) return prefetch_.End(key);
  residency_.EnterHost(*loaded.adapter, loaded.image->bytes());
  if (loaded.slot != kNoSlot) {
    slots_[loaded.slot].hold = std::move(hold);
  } else {
    prefetch_.Fetched(key, std::move(hold));
  }
}

void AdapterTiers::EndSlotLoad(LoadedAdapter* loaded, const Flight& flight) {
  const int32_t slot = loaded->slot;
  --slot_loads_;
  ++version_;
  if (loaded->status.ok()) {
    ++loads_;
    slots_[slot].adapter = loaded->adapter;
    slots_[slot].bytes = loaded->image->bytes();
    if (on_load_) {
      on_load_(AdapterLevel::kDevice, clock_->Now() - flight.device_wanted);
    }
    residency_.EnterDevice(*loaded->adapter, slots_[slot].bytes);
    scheduler_->SlotLoaded(slot, slots_[slot].bytes);
  } else {
    runner_->UnloadAdapter(slot);
    if (loaded->no_room) {
      FindRoom(loaded);
    } else {
      Fail(*loaded);
    }
  }
  if (!scheduler_->slots().loading(slot)) Settle(loaded);
}

// The load into the slot is over.
void AdapterTiers::Settle(LoadedAdapter* loaded) {
  slots_[loaded->slot].hold.Release();
  flights_.erase(KeyOf(*loaded->adapter));
  loader_.Discard(std::move(loaded->image));
  if (alone_slot_ == loaded->slot) alone_slot_ = -1;
}

// Idle adapters make room for the one that is wanted; else those that run do,
// when they are done. Only what finds no room beside the pinned ones can never
// be loaded.
void AdapterTiers::FindRoom(LoadedAdapter* loaded) {
  const int32_t slot = loaded->slot;
  SlotTable& slots = scheduler_->slots();
  // Nobody waits for it any more.
  if (slots.leases(slot) == 0) return scheduler_->DeferSlot(slot);
  if (const std::optional<int32_t> idle = slots.EvictFor(slot)) {
    UnloadSlot(*idle);
    return StartLoad(slot, loaded->adapter, loaded->image);
  }
  if (OtherAdapterRuns(slot)) {
    return scheduler_->DeferSlot(slot, slots.OnlyOwnMemory(slot));
  }
  if (alone_slot_ == slot) return Fail(*loaded);
  if (slot_loads_ == 0) {
    return StartLoad(slot, loaded->adapter, loaded->image);
  }
  parked_.push_back(std::move(*loaded));
}

void AdapterTiers::Fail(const LoadedAdapter& loaded) {
  LogWarning("adapter ", LogSafe(loaded.adapter->name),
             " could not be loaded: ", loaded.status.ToString());
  scheduler_->SlotLoadFailed(loaded.slot);
  on_failure_(loaded.slot, *loaded.adapter, loaded.status);
}

bool AdapterTiers::OtherAdapterRuns(int32_t slot) const {
  const SlotTable& slots = scheduler_->slots();
  for (int32_t other = 0; other < slots.num_slots(); ++other) {
    if (other != slot && slots.leases(other) > 0 && slots.loaded(other) &&
        !slots.pinned(other)) {
      return true;
    }
  }
  return false;
}

// What the slot held, if anything; it may be another adapter's by now.
uint64_t AdapterTiers::UnloadSlot(int32_t slot) {
  DeviceSlot& device = slots_[slot];
  if (device.adapter == nullptr) return 0;
  runner_->UnloadAdapter(slot);
  ++version_;
  residency_.LeaveDevice(KeyOf(*device.adapter));
  device.adapter.reset();
  return std::exchange(device.bytes, 0);
}

uint64_t AdapterTiers::FreeRetired(int32_t slot) {
  const uint64_t bytes = UnloadSlot(slot);
  scheduler_->slots().FreeRetired(slot);
  return bytes;
}

void AdapterTiers::ForgetFetch(AdapterKeyView key) {
  prefetch_.End(key);
  if (loader_.Forget(key)) flights_.erase(key);
}

uint64_t AdapterTiers::DropHost(AdapterKeyView key) {
  prefetch_.End(key);
  std::shared_ptr<const AdapterImage> image = host_.Drop(key);
  if (image == nullptr) return 0;
  const uint64_t bytes = image->bytes();
  residency_.LeaveHost(key);
  loader_.Discard(std::move(image));
  return bytes;
}

void AdapterTiers::Stop() {
  loader_.Stop();
  prefetch_.Clear();
}

void AdapterTiers::UpdateStats(EngineStats* stats) const {
  const HostTierStats host = host_.Stats();
  stats->host_adapters = host.adapters;
  stats->host_bytes = host.bytes;
  stats->host_capacity = host.capacity;
  stats->host_hits = host.hits;
  stats->host_misses = host.misses;
  stats->host_evictions = host.evictions;
  const AdapterMemory device = runner_->adapter_memory();
  stats->device_bytes = device.used;
  stats->device_capacity = device.capacity;
  const SlotTable& slots = scheduler_->slots();
  stats->device_hits = slots.hits();
  stats->device_misses = slots.misses();
  stats->slots_total = slots.num_slots();
  stats->slots_used = slots.occupied();
  stats->adapter_evictions = slots.evictions();
  stats->adapter_loads = loads_;
}

}  // namespace descant
