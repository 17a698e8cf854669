#include "adapters/slot_table.h"

#include "runtime/base/check.h"

namespace descant {

SlotLease& SlotLease::operator=(SlotLease&& other) noexcept {
  if (this != &other) {
    Release();
    table_ = std::exchange(other.table_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

void SlotLease::Release() {
  if (table_ != nullptr) std::exchange(table_, nullptr)->Release(slot_);
}

SlotTable::SlotTable(int32_t num_slots) : slots_(num_slots) {
  for (int32_t slot = num_slots - 1; slot >= 0; --slot) free_.push_back(slot);
}

SlotTable::~SlotTable() { DESCANT_CHECK(leased_slots_ == 0); }

std::optional<SlotLease> SlotTable::Acquire(
    const std::shared_ptr<const Adapter>& adapter) {
  const Key key(adapter->tenant, adapter->digest);
  int32_t slot = -1;
  if (const auto it = index_.find(key); it != index_.end()) {
    slot = it->second;
  } else {
    if (free_.empty() && !EvictOne().has_value()) return std::nullopt;
    slot = free_.back();
    free_.pop_back();
    index_.emplace(key, slot);
    slots_[slot].adapter = adapter;
  }
  Slot& entry = slots_[slot];
  if (entry.leases++ == 0) {
    if (entry.loaded) lru_.erase(entry.lru);
    ++leased_slots_;
  }
  return SlotLease(this, slot);
}

bool SlotTable::CanAcquire(const Adapter& adapter) const {
  return !free_.empty() || !lru_.empty() ||
         index_.contains(Key(adapter.tenant, adapter.digest));
}

void SlotTable::BeginLoad(int32_t slot) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.leases > 0 && !entry.loading && !entry.loaded);
  entry.loading = true;
}

void SlotTable::EndLoad(int32_t slot, bool loaded) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.loading);
  entry.loading = false;
  entry.loaded = loaded;
  if (entry.leases == 0) BecomeIdle(slot);
}

std::optional<int32_t> SlotTable::EvictOne() {
  if (lru_.empty()) return std::nullopt;
  const int32_t slot = lru_.front();
  lru_.pop_front();
  ++evictions_;
  Free(slot);
  return slot;
}

void SlotTable::Release(int32_t slot) {
  Slot& entry = slots_[slot];
  DESCANT_CHECK(entry.leases > 0);
  if (--entry.leases > 0) return;
  --leased_slots_;
  if (!entry.loading) BecomeIdle(slot);
}

void SlotTable::BecomeIdle(int32_t slot) {
  Slot& entry = slots_[slot];
  if (entry.loaded) {
    ++releases_;
    entry.lru = lru_.insert(lru_.end(), slot);
  } else {
    Free(slot);
  }
}

// The slot is neither leased nor loading nor on the LRU list.
void SlotTable::Free(int32_t slot) {
  Slot& entry = slots_[slot];
  index_.erase(Key(entry.adapter->tenant, entry.adapter->digest));
  entry.adapter.reset();
  entry.loaded = false;
  free_.push_back(slot);
}

void SlotTable::CheckInvariants() const {
  std::vector<int32_t> free_count(slots_.size());
  std::vector<int32_t> lru_count(slots_.size());
  for (const int32_t slot : free_) ++free_count[slot];
  for (const int32_t slot : lru_) ++lru_count[slot];
  int32_t leased = 0;
  size_t occupied = 0;
  for (int32_t slot = 0; slot < num_slots(); ++slot) {
    const Slot& entry = slots_[slot];
    DESCANT_CHECK(entry.leases >= 0);
    leased += entry.leases > 0 ? 1 : 0;
    if (entry.adapter == nullptr) {
      DESCANT_CHECK(entry.leases == 0 && !entry.loaded && !entry.loading);
      DESCANT_CHECK(free_count[slot] == 1 && lru_count[slot] == 0);
      continue;
    }
    ++occupied;
    DESCANT_CHECK(free_count[slot] == 0);
    const bool idle = entry.leases == 0 && !entry.loading;
    DESCANT_CHECK(lru_count[slot] == (idle ? 1 : 0));
    DESCANT_CHECK(!idle || entry.loaded);
    DESCANT_CHECK(!entry.loading || !entry.loaded);
    const auto it =
        index_.find(Key(entry.adapter->tenant, entry.adapter->digest));
    DESCANT_CHECK(it != index_.end() && it->second == slot);
  }
  DESCANT_CHECK(leased == leased_slots_);
  DESCANT_CHECK(occupied == index_.size());
}

}  // namespace descant
