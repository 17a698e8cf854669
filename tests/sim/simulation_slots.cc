#include "tests/sim/simulation.h"

namespace descant {

// Counted here from what the table shows, not from what it counts.
void Simulation::CheckEviction(int32_t slot, const Adapter& wanted) {
  const SlotTable& table = scheduler_->slots();
  const std::string& loser = table.adapter(slot)->tenant;
  EXPECT_EQ(table.leases(slot), 0);
  if (loser == wanted.tenant) return;
  ++taken_;
  std::map<std::string, int> slots;
  std::map<std::string, int> loaded;
  int shared = 0;
  int shared_loaded = 0;
  slots[wanted.tenant] = 0;
  loaded[wanted.tenant] = 0;
  for (int32_t i = 0; i < table.num_slots(); ++i) {
    if (table.pinned(i)) continue;
    ++shared;
    if (table.adapter(i) == nullptr) continue;
    ++slots[table.adapter(i)->tenant];
    if (!table.loaded(i)) continue;
    ++loaded[table.adapter(i)->tenant];
    ++shared_loaded;
  }
  // For a slot, or for the memory of one.
  const bool for_slot = !table.Find(KeyOf(wanted)).has_value();
  auto& counts = for_slot ? slots : loaded;
  std::erase_if(counts, [&wanted](const auto& item) {
    return item.second == 0 && item.first != wanted.tenant;
  });
  const int total = for_slot ? shared : shared_loaded;
  const int equal = total / static_cast<int>(counts.size());
  const auto excess = [&](const std::string& tenant) {
    const int share = limits_[tenant].slots.share;
    return counts[tenant] - (share > 0 ? std::min(share, equal) : equal);
  };
  EXPECT_GT(excess(loser), 0);
  if (counts[wanted.tenant] > 0) {
    EXPECT_GT(excess(loser), excess(wanted.tenant) + 1);
  }
}

// No tenant has more slots, or idle blocks, than its limits say.
void Simulation::CheckLimits() {
  const SlotTable& table = scheduler_->slots();
  std::map<std::string, int> slots;
  for (int32_t i = 0; i < table.num_slots(); ++i) {
    if (table.adapter(i) != nullptr) ++slots[table.adapter(i)->tenant];
  }
  std::map<std::string, int> blocks;
  scheduler_->blocks().idle_blocks().ForEach(
      [&](int32_t id, int32_t) { ++blocks[writers_.writer(id)]; });
  // "Waiting for a load is bounded separately by 2 s", a step being 1 ms.
  for (int32_t i = 0; i < table.num_slots(); ++i) {
    if (!table.loading(i)) loading_since_[i] = step_;
    EXPECT_LE(step_ - loading_since_[i], 2000) << "slot " << i;
  }
  for (const auto& [tenant, limits] : limits_) {
    // (Slots that operators had for it count when the pin ends.)
    if (limits.slots.most > 0 && !operated_) {
      EXPECT_LE(slots[tenant], limits.slots.most) << tenant;
    }
    if (limits.cached_blocks > 0) {
      EXPECT_LE(blocks[tenant], limits.cached_blocks) << tenant;
    }
  }
}

// What operators do: pins that come and go, slots that are emptied.
void Simulation::Operate() {
  SlotTable& table = scheduler_->slots();
  std::erase_if(pins_, [&](const SlotLease& pin) {
    if (!Chance(2) && table.loaded(pin.slot())) return false;
    if (table.loading(pin.slot())) return false;
    table.SetPinned(pin.slot(), false);
    return true;
  });
  for (int32_t slot = 0; slot < table.num_slots(); ++slot) {
    if (!table.retiring(slot)) continue;
    scheduler_->PreemptPausedOn(slot);
    if (!table.retired(slot)) continue;
    runner_->UnloadAdapter(slot);
    table.FreeRetired(slot);
    ++unloaded_;
  }
  if (step_ > 2000 || !Chance(10)) return;
  const int32_t slot = Pick(0, table.num_slots() - 1);
  if (Chance(50)) {
    const bool pinned = std::any_of(
        pins_.begin(), pins_.end(),
        [slot](const SlotLease& pin) { return pin.slot() == slot; });
    if (table.adapter(slot) != nullptr && !pinned) table.Retire(slot);
    return;
  }
  const auto& adapter =
      all_adapters_[Pick(0, static_cast<int32_t>(all_adapters_.size()) - 1)];
  if (static_cast<int32_t>(pins_.size()) + 1 >= table.num_slots()) return;
  const auto found = table.Find(KeyOf(*adapter));
  if (found && table.pinned(*found)) return;
  auto lease =
      table.Acquire(adapter, LeaseKind::kHold, &limits_[adapter->tenant].slots);
  if (!lease) return;
  table.SetPinned(lease->slot(), true);
  if (!table.loaded(lease->slot()) && !table.loading(lease->slot())) {
    table.BeginLoad(lease->slot());
    runner_->UnloadAdapter(lease->slot());
    loads_.push_back({lease->slot(), step_ + Pick(0, 12)});
  }
  pins_.push_back(std::move(*lease));
}

// Loads take a while; each ends in the step in which it is due.
void Simulation::BeginLoads() {
  for (const int32_t slot : scheduler_->slots_to_load()) {
    runner_->UnloadAdapter(slot);
    loads_.push_back({slot, step_ + (slow_loads_ ? Pick(0, 12) : 0)});
  }
}

void Simulation::EndLoads() {
  std::vector<Load> due;
  std::erase_if(loads_, [&](const Load& load) {
    if (load.due <= step_) due.push_back(load);
    return load.due <= step_;
  });
  for (const Load& load : due) {
    EndLoad(load.slot);
    scheduler_->CheckInvariants();
  }
}

void Simulation::EndLoad(int32_t slot) {
  SlotTable& table = scheduler_->slots();
  ++loaded_;
  const absl::Status status = runner_->LoadAdapter(slot, table.adapter(slot));
  if (status.ok()) return scheduler_->SlotLoaded(slot);
  runner_->UnloadAdapter(slot);
  if (absl::IsResourceExhausted(status)) {
    if (table.leases(slot) == 0) return scheduler_->DeferSlot(slot);
    if (const auto idle = table.EvictFor(slot)) {
      runner_->UnloadAdapter(*idle);
      loads_.push_back({slot, step_ + 1});
      return;
    }
    if (OthersLoaded(slot)) {
      return scheduler_->DeferSlot(slot, table.OnlyOwnMemory(slot));
    }
    if (AnyRetired()) {  // its memory is about to come free
      loads_.push_back({slot, step_ + 1});
      return;
    }
    // Pinned ones fill the memory, or the adapter is not one for it.
    pins_fill_ |= !pins_.empty();
  }
  scheduler_->SlotLoadFailed(slot);
  Take(nullptr);
}

bool Simulation::AnyRetired() const {
  const SlotTable& table = scheduler_->slots();
  for (int32_t i = 0; i < table.num_slots(); ++i) {
    if (table.retired(i)) return true;
  }
  return false;
}

bool Simulation::OthersLoaded(int32_t slot) const {
  const SlotTable& table = scheduler_->slots();
  for (int32_t i = 0; i < table.num_slots(); ++i) {
    if (i != slot && table.leases(i) > 0 && table.loaded(i) &&
        !table.pinned(i)) {
      return true;
    }
  }
  return false;
}

}  // namespace descant
