// Which adapter occupies which device slot: pure bookkeeping, no memory, no
// thread. The scheduler leases a slot per sequence; whoever loads adapters
// brings a leased slot from empty over loading to loaded.
//
// Invariants (CheckInvariants): a (tenant, digest) occupies at most one slot;
// a slot is free, or has an adapter; an occupied slot that is neither leased
// nor loading is loaded and on the LRU list exactly once, no other slot is.
#ifndef DESCANT_ADAPTERS_SLOT_TABLE_H_
#define DESCANT_ADAPTERS_SLOT_TABLE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "adapters/adapter.h"

namespace descant {

class SlotTable;

// A sequence's hold on a slot: while it lives, the slot keeps its adapter.
// Move-only; released on destruction. Must not outlive the table.
class SlotLease {
 public:
  SlotLease(SlotLease&& other) noexcept
      : table_(std::exchange(other.table_, nullptr)), slot_(other.slot_) {}
  SlotLease& operator=(SlotLease&& other) noexcept;
  ~SlotLease() { Release(); }

  int32_t slot() const { return slot_; }

 private:
  friend class SlotTable;
  SlotLease(SlotTable* table, int32_t slot) : table_(table), slot_(slot) {}
  void Release();

  SlotTable* table_;
  int32_t slot_;
};

// Used by one thread.
class SlotTable {
 public:
  // REQUIRES: num_slots >= 0.
  explicit SlotTable(int32_t num_slots);
  // REQUIRES: no leases.
  ~SlotTable();
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

  // A lease on the adapter's slot: the one it occupies, else a free one, else
  // the least recently used without leases, whose adapter is evicted. Empty
  // when every slot is leased by other adapters.
  std::optional<SlotLease> Acquire(
      const std::shared_ptr<const Adapter>& adapter);

  // Whether Acquire would succeed.
  bool CanAcquire(const Adapter& adapter) const;

  // Somebody writes to the slot from now on: it keeps its adapter until the
  // load has ended, whatever becomes of its leases. REQUIRES: leased, neither
  // loading nor loaded.
  void BeginLoad(int32_t slot);
  // REQUIRES: loading. After a load that failed the slot becomes free with its
  // last lease.
  void EndLoad(int32_t slot, bool loaded);
  bool loading(int32_t slot) const { return slots_[slot].loading; }
  bool loaded(int32_t slot) const { return slots_[slot].loaded; }
  // Null for a free slot.
  const std::shared_ptr<const Adapter>& adapter(int32_t slot) const {
    return slots_[slot].adapter;
  }

  // Frees the least recently used slot without leases and names it, so that
  // its device memory can be unloaded; empty when there is none.
  std::optional<int32_t> EvictOne();

  int32_t num_slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t occupied() const { return static_cast<int32_t>(index_.size()); }
  int32_t leased() const { return leased_slots_; }  // slots with >= 1 lease
  int32_t leases(int32_t slot) const { return slots_[slot].leases; }
  uint64_t evictions() const { return evictions_; }
  // How often a loaded slot lost its last lease: only then is there more
  // memory to be had by evictions than before.
  uint64_t releases() const { return releases_; }

  // Aborts on a violated invariant.
  void CheckInvariants() const;

 private:
  friend class SlotLease;
  using Key = std::pair<std::string, std::string>;  // tenant, digest
  struct Slot {
    std::shared_ptr<const Adapter> adapter;
    int32_t leases = 0;
    bool loading = false;
    bool loaded = false;
    std::list<int32_t>::iterator lru;  // valid while idle
  };

  void Release(int32_t slot);
  void BecomeIdle(int32_t slot);
  void Free(int32_t slot);

  std::vector<Slot> slots_;
  std::vector<int32_t> free_;  // descending: the lowest slot is taken first
  std::list<int32_t> lru_;     // least recently used first
  absl::flat_hash_map<Key, int32_t> index_;
  int32_t leased_slots_ = 0;
  uint64_t evictions_ = 0;
  uint64_t releases_ = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_SLOT_TABLE_H_
