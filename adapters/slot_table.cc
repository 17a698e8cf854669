#include "adapters/slot_table.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace descant {

SlotLease& SlotLease::operator=(SlotLease&& other) noexcept {
  if (this != &other) {
    Release();
    table_ = std::exchange(other.table_, nullptr);
    slot_ = other.slot_;
    kind_ = other.kind_;
  }
  return *this;
}

void SlotLease::Release() {
  if (table_ != nullptr) std::exchange(table_, nullptr)->Release(slot_, kind_);
}

SlotTable::SlotTable(int32_t num_slots) : slots_(num_slots) {
  for (int32_t slot = num_slots - 1; slot >= 0; --slot) free_.push_back(slot);
}

SlotTable::~SlotTable() { DESCANT_CHECK(leased_slots_ == 0); }

std::optional<SlotLease> SlotTable::Acquire(
    const std::shared_ptr<const Adapter>& adapter, LeaseKind kind,
    const SlotLimits* limits) {
  if (Access(*adapter) != SlotAccess::kGranted) return std::nullopt;
  int32_t slot = -1;
  if (const auto it = index_.find(KeyOf(*adapter)); it != index_.end()) {
    slot = it->second;
  } else {
    const int32_t tenant = TenantOf(adapter->tenant);
    if (free_.empty() || AtMost(tenant)) {
      EvictFrom(PickVictim(tenant, &Tenant::held), *adapter);
    }
    slot = free_.back();
    free_.pop_back();
    index_.emplace(AdapterKey(*adapter), slot);
    slots_[slot].adapter = adapter;
    slots_[slot].tenant = EnterTenant(adapter->tenant);
    ++tenants_[slots_[slot].tenant].occupied;
    CountSlot(slots_[slot], 1);
  }
  Slot& entry = slots_[slot];
  if (limits != nullptr) tenants_[entry.tenant].limits = *limits;
  CountSlot(entry, -1);
  leased_slots_ += entry.leases++ == 0;
  if (kind == LeaseKind::kSequence) {
    used_slots_ += entry.users++ == 0;
    ++(entry.loaded ? hits_ : misses_);
  }
  CountSlot(entry, 1);
  return SlotLease(this, slot, kind);
}

SlotAccess SlotTable::Access(const Adapter& adapter) const {
  if (const auto it = index_.find(KeyOf(adapter)); it != index_.end()) {
    return slots_[it->second].retiring ? SlotAccess::kRetiring
                                       : SlotAccess::kGranted;
  }
  const int32_t tenant = TenantOf(adapter.tenant);
  if (!free_.empty() && !AtMost(tenant)) return SlotAccess::kGranted;
  if (PickVictim(tenant, &Tenant::held) >= 0) return SlotAccess::kGranted;
  return OnlyOwn(tenant, &Tenant::held) ? SlotAccess::kOwnShare
                                        : SlotAccess::kFull;
}

bool SlotTable::OnlyOwn(int32_t tenant, Count count) const {
  if (tenant < 0 || tenants_[tenant].*count == 0) return false;
  if (count == &Tenant::held && AtMost(tenant)) return true;
  const int32_t share = EqualShare(tenant, count);
  for (int32_t i = 0; i < static_cast<int32_t>(tenants_.size()); ++i) {
    if (i != tenant && MayTakeFrom(i, tenant, count, share)) return false;
  }
  return true;
}

bool SlotTable::OnlyOwnMemory(int32_t slot) const {
  return OnlyOwn(slots_[slot].tenant, &Tenant::loaded);
}

bool SlotTable::MayTake(const Adapter& adapter, int32_t slot) const {
  const Slot& entry = slots_[slot];
  if (entry.adapter == nullptr || entry.pinned || entry.retiring) return false;
  const int32_t tenant = TenantOf(adapter.tenant);
  if (entry.tenant == tenant) return true;
  return !AtMost(tenant) && MayTakeFrom(entry.tenant, tenant, &Tenant::held,
                                        EqualShare(tenant, &Tenant::held));
}

void SlotTable::BeginLoad(int32_t slot) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.leases > 0 && !entry.loading && !entry.loaded);
  entry.loading = true;
}

void SlotTable::EndLoad(int32_t slot, bool loaded) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.loading);
  CountSlot(entry, -1);
  entry.loading = false;
  entry.loaded = loaded;
  entry.idle_since = ++tick_;
  CountSlot(entry, 1);
  if (entry.leases == 0) Settle(slot);
}

std::optional<int32_t> SlotTable::Find(AdapterKeyView key) const {
  const auto it = index_.find(key);
  if (it == index_.end()) return std::nullopt;
  return it->second;
}

std::optional<int32_t> SlotTable::EvictFor(int32_t slot) {
  const Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.adapter != nullptr && !entry.loaded);
  const int32_t victim = PickVictim(entry.tenant, &Tenant::loaded);
  if (victim < 0) return std::nullopt;
  EvictFrom(victim, *entry.adapter);
  return free_.back();
}

void SlotTable::SetPinned(int32_t slot, bool pinned) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.leases > 0);
  if (entry.pinned == pinned) return;
  CountSlot(entry, -1);
  entry.pinned = pinned;
  CountSlot(entry, 1);
}

void SlotTable::Retire(int32_t slot) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.adapter != nullptr);
  CountSlot(entry, -1);
  entry.retiring = true;
  CountSlot(entry, 1);
}

bool SlotTable::retired(int32_t slot) const {
  const Slot& entry = slots_[slot];
  return entry.retiring && entry.leases == 0 && !entry.loading;
}

void SlotTable::FreeRetired(int32_t slot) {
  DESCANT_CHECK(retired(slot));
  ++releases_;
  Free(slot);
}

int32_t SlotTable::TenantOf(absl::string_view name) const {
  const auto it = tenant_index_.find(name);
  return it == tenant_index_.end() ? -1 : it->second;
}

int32_t SlotTable::EnterTenant(const std::string& name) {
  const auto [it, inserted] = tenant_index_.emplace(name, -1);
  if (!inserted) return it->second;
  for (size_t i = 0; i < tenants_.size() && it->second < 0; ++i) {
    if (tenants_[i].occupied == 0) it->second = static_cast<int32_t>(i);
  }
  if (it->second < 0) {
    it->second = static_cast<int32_t>(tenants_.size());
    tenants_.emplace_back();
  }
  tenants_[it->second] = Tenant{name};
  return it->second;
}

int32_t SlotTable::EqualShare(int32_t tenant, Count count) const {
  int32_t total = 0;
  int32_t sharers = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(tenants_.size()); ++i) {
    total += tenants_[i].*count;
    sharers += i == tenant || tenants_[i].*count > 0;
  }
  sharers += tenant < 0;
  if (count == &Tenant::held) total += static_cast<int32_t>(free_.size());
  return sharers == 0 ? total : total / sharers;
}

int32_t SlotTable::Excess(int32_t tenant, Count count, int32_t equal) const {
  const Tenant& entry = tenants_[tenant];
  const int32_t share = entry.limits.share;
  return entry.*count - (share > 0 ? std::min(share, equal) : equal);
}

bool SlotTable::MayTakeFrom(int32_t victim, int32_t tenant, Count count,
                            int32_t equal) const {
  const int32_t excess = Excess(victim, count, equal);
  if (excess <= 0) return false;
  if (tenant < 0 || tenants_[tenant].*count == 0) return true;
  return excess >= Excess(tenant, count, equal) + 2;
}

bool SlotTable::AtMost(int32_t tenant) const {
  if (tenant < 0) return false;
  const Tenant& entry = tenants_[tenant];
  return entry.limits.most > 0 && entry.held >= entry.limits.most;
}

int32_t SlotTable::PickVictim(int32_t tenant, Count count) const {
  if (idle_slots_ == 0) return -1;
  const int32_t share = EqualShare(tenant, count);
  const bool own_only = count == &Tenant::held && AtMost(tenant);
  int32_t victim = -1;
  for (int32_t i = 0; i < static_cast<int32_t>(tenants_.size()); ++i) {
    if (tenants_[i].idle == 0 || i == tenant || own_only) continue;
    if (!MayTakeFrom(i, tenant, count, share)) continue;
    const int32_t more =
        victim < 0 ? 1 : Excess(i, count, share) - Excess(victim, count, share);
    if (more > 0 || (more == 0 && slots_[OldestIdle(i)].idle_since <
                                      slots_[OldestIdle(victim)].idle_since)) {
      victim = i;
    }
  }
  if (victim < 0 && tenant >= 0 && tenants_[tenant].idle > 0) victim = tenant;
  return victim;
}

int32_t SlotTable::OldestIdle(int32_t tenant) const {
  int32_t oldest = -1;
  for (int32_t slot = 0; slot < num_slots(); ++slot) {
    if (!Idle(slots_[slot]) || slots_[slot].tenant != tenant) continue;
    if (oldest < 0 || slots_[slot].idle_since < slots_[oldest].idle_since) {
      oldest = slot;
    }
  }
  return oldest;
}

void SlotTable::EvictFrom(int32_t tenant, const Adapter& wanted) {
  const int32_t oldest = OldestIdle(tenant);
  DESCANT_CHECK(oldest >= 0);
  if (on_eviction_) on_eviction_(oldest, wanted);
  ++evictions_;
  Free(oldest);
}

void SlotTable::CountSlot(const Slot& slot, int32_t sign) {
  if (slot.pinned) return;
  Tenant& tenant = tenants_[slot.tenant];
  tenant.held += sign;
  if (slot.loaded) tenant.loaded += sign;
  if (!Idle(slot)) return;
  tenant.idle += sign;
  idle_slots_ += sign;
}

void SlotTable::Release(int32_t slot, LeaseKind kind) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.leases > 0);
  CountSlot(entry, -1);
  leased_slots_ -= --entry.leases == 0;
  if (kind == LeaseKind::kSequence) used_slots_ -= --entry.users == 0;
  CountSlot(entry, 1);
  if (entry.leases > 0) return;
  DESCANT_CHECK(!entry.pinned);
  if (!entry.loading) Settle(slot);
}

// Without leases and loads: idle, free, or retired.
void SlotTable::Settle(int32_t slot) {
  Slot& entry = slots_[slot];
  if (entry.loaded) {
    ++releases_;
    entry.idle_since = ++tick_;
  } else if (!entry.retiring) {
    Free(slot);
  }
}

// REQUIRES: neither leased nor loading.
void SlotTable::Free(int32_t slot) {
  Slot& entry = slots_[slot];
  CountSlot(entry, -1);
  Tenant& tenant = tenants_[entry.tenant];
  if (--tenant.occupied == 0) tenant_index_.erase(tenant.name);
  index_.erase(KeyOf(*entry.adapter));
  entry = Slot();
  free_.push_back(slot);
}

void SlotTable::CheckInvariants() const {
  std::vector<int32_t> free_count(slots_.size());
  std::vector<Tenant> tenants(tenants_.size());
  for (const int32_t slot : free_) ++free_count[slot];
  int32_t leased = 0;
  int32_t used = 0;
  int32_t idle = 0;
  size_t occupied = 0;
  for (int32_t slot = 0; slot < num_slots(); ++slot) {
    const Slot& entry = slots_[slot];
    DESCANT_CHECK(entry.users >= 0 && entry.leases >= entry.users);
    leased += entry.leases > 0 ? 1 : 0;
    used += entry.users > 0 ? 1 : 0;
    if (entry.adapter == nullptr) {
      DESCANT_CHECK(entry.leases == 0 && !entry.loaded && !entry.loading &&
                    !entry.pinned && !entry.retiring);
      DESCANT_CHECK(free_count[slot] == 1);
      continue;
    }
    ++occupied;
    DESCANT_CHECK(free_count[slot] == 0);
    DESCANT_CHECK(entry.leases > 0 || entry.loading || entry.loaded ||
                  entry.retiring);
    DESCANT_CHECK(!entry.loading || !entry.loaded);
    DESCANT_CHECK(!entry.pinned || entry.leases > entry.users);
    DESCANT_CHECK(Find(KeyOf(*entry.adapter)) == slot);
    Tenant& tenant = tenants[entry.tenant];
    DESCANT_CHECK(TenantOf(entry.adapter->tenant) == entry.tenant);
    ++tenant.occupied;
    if (entry.pinned) continue;
    ++tenant.held;
    tenant.loaded += entry.loaded ? 1 : 0;
    tenant.idle += Idle(entry) ? 1 : 0;
    idle += Idle(entry) ? 1 : 0;
  }
  size_t named = 0;
  for (size_t i = 0; i < tenants.size(); ++i) {
    DESCANT_CHECK(tenants[i].occupied == tenants_[i].occupied);
    DESCANT_CHECK(tenants[i].held == tenants_[i].held);
    DESCANT_CHECK(tenants[i].loaded == tenants_[i].loaded);
    DESCANT_CHECK(tenants[i].idle == tenants_[i].idle);
    named += tenants[i].occupied > 0 ? 1 : 0;
  }
  DESCANT_CHECK(named == tenant_index_.size());
  DESCANT_CHECK(leased == leased_slots_ && used == used_slots_);
  DESCANT_CHECK(idle == idle_slots_ && occupied == index_.size());
}

}  // namespace descant
