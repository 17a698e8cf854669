// Which adapter occupies which device slot: pure bookkeeping, no memory, no
// thread. The scheduler leases a slot per sequence; whoever loads adapters
// brings a leased slot from empty over loading to loaded.
//
// Tenants share the table. A tenant's share is an equal one, or what its limits
// say where that is less; its excess is what it has beyond it. Who needs a slot
// and finds none free takes an idle one from the tenant with most excess, if
// that is at least two more than its own (so that taking doesn't just turn the
// two round), or it has none itself; else the one of its own that was used
// longest ago. So a tenant with at most its share never loses a slot to another
// one, and one tenant alone has plain LRU. Who has the most that its limits
// allow takes from itself only, free slots or not. Pinned slots are nobody's:
// they count neither as shares nor as held.
//
// Invariants (CheckInvariants): a (tenant, digest) occupies at most one slot;
// a slot is free, or has an adapter; an occupied slot that is neither leased,
// loading nor retiring is loaded ("idle"), and only those are evicted.
#ifndef DESCANT_ADAPTERS_SLOT_TABLE_H_
#define DESCANT_ADAPTERS_SLOT_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "adapters/adapter_key.h"
#include "adapters/slot_limits.h"

namespace descant {

class SlotTable;

// What a lease is for.
enum class LeaseKind : uint8_t {
  kSequence,  // computes with the slot
  kHold,      // keeps it: a pin, or a load that somebody asked for
};

// A hold on a slot: while it lives, the slot keeps its adapter. Move-only;
// released on destruction. Must not outlive the table.
class SlotLease {
 public:
  SlotLease(SlotLease&& other) noexcept
      : table_(std::exchange(other.table_, nullptr)),
        slot_(other.slot_),
        kind_(other.kind_) {}
  SlotLease& operator=(SlotLease&& other) noexcept;
  ~SlotLease() { Release(); }

  int32_t slot() const { return slot_; }

 private:
  friend class SlotTable;
  SlotLease(SlotTable* table, int32_t slot, LeaseKind kind)
      : table_(table), slot_(slot), kind_(kind) {}
  void Release();

  SlotTable* table_;
  int32_t slot_;
  LeaseKind kind_;
};

// Whether an adapter can have a slot, and what it waits for otherwise.
enum class SlotAccess : uint8_t {
  kGranted,
  kFull,      // slots that are leased, and that it might take when they aren't
  kOwnShare,  // its tenant has its share: only that one's leases matter
  kRetiring,  // its slot is being emptied
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
  // an idle one, whose adapter is evicted. Empty unless Access is kGranted.
  // `limits` are those of the adapter's tenant from here on; null: as before.
  std::optional<SlotLease> Acquire(
      const std::shared_ptr<const Adapter>& adapter,
      LeaseKind kind = LeaseKind::kSequence,
      const SlotLimits* limits = nullptr);

  // Whether Acquire would succeed. O(tenants) at most.
  SlotAccess Access(const Adapter& adapter) const;
  bool CanAcquire(const Adapter& adapter) const {
    return Access(adapter) == SlotAccess::kGranted;
  }

  // Whether `adapter`, which has no slot, could take this one if it were idle.
  bool MayTake(const Adapter& adapter, int32_t slot) const;

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
  // The slot the adapter occupies.
  std::optional<int32_t> Find(AdapterKeyView key) const;

  // Frees an idle slot, so that its memory can be had for the adapter that
  // loads into `slot`, and names it. As for Acquire, but shares are counted in
  // slots with memory. Empty when there is none it may have.
  std::optional<int32_t> EvictFor(int32_t slot);
  // Whether only slots of its own tenant could ever make room for it.
  bool OnlyOwnMemory(int32_t slot) const;

  // A pinned slot has a hold as long as it is pinned. REQUIRES: leased.
  void SetPinned(int32_t slot, bool pinned);
  bool pinned(int32_t slot) const { return slots_[slot].pinned; }

  // No new lease on the slot from now on. When the last one is gone and nothing
  // loads, it is `retired`, and stays so until FreeRetired. REQUIRES: occupied.
  void Retire(int32_t slot);
  bool retiring(int32_t slot) const { return slots_[slot].retiring; }
  bool retired(int32_t slot) const;
  // REQUIRES: retired(slot).
  void FreeRetired(int32_t slot);

  int32_t num_slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t occupied() const { return static_cast<int32_t>(index_.size()); }
  int32_t leased() const { return leased_slots_; }  // slots with >= 1 lease
  int32_t leases(int32_t slot) const { return slots_[slot].leases; }
  // The same of leases of sequences only.
  int32_t used() const { return used_slots_; }
  int32_t users(int32_t slot) const { return slots_[slot].users; }
  uint64_t evictions() const { return evictions_; }
  // Leases of sequences that found their adapter loaded, and that did not.
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }
  // How often a loaded slot lost its last lease, or a slot its memory other
  // than by eviction: only then is there more memory to be had than before.
  uint64_t releases() const { return releases_; }

  // Called before each eviction: the slot, and for which adapter.
  using EvictionListener = std::function<void(int32_t, const Adapter&)>;
  void SetEvictionListener(EvictionListener listener) {
    on_eviction_ = std::move(listener);
  }

  // Aborts on a violated invariant.
  void CheckInvariants() const;

 private:
  friend class SlotLease;
  struct Slot {
    std::shared_ptr<const Adapter> adapter;
    int32_t tenant = 0;  // index into tenants_, while it has an adapter
    int32_t leases = 0;
    int32_t users = 0;  // leases of sequences
    bool loading = false;
    bool loaded = false;
    bool pinned = false;
    bool retiring = false;
    uint64_t idle_since = 0;  // tick; while idle
  };
  // A tenant with slots. Slots that are pinned don't count.
  struct Tenant {
    std::string name;
    int32_t occupied = 0;  // pinned ones too: 0: the entry is unused
    int32_t held = 0;
    int32_t loaded = 0;
    int32_t idle = 0;
    SlotLimits limits;
  };
  using Count = int32_t Tenant::*;  // held or loaded

  static bool Idle(const Slot& slot) {
    return slot.loaded && slot.leases == 0 && !slot.retiring;
  }
  int32_t TenantOf(absl::string_view name) const;  // -1: it has no slots
  int32_t EnterTenant(const std::string& name);
  // What each tenant could have of `count`, `tenant` among them.
  int32_t EqualShare(int32_t tenant, Count count) const;
  // What the tenant has beyond its share; `equal` is an equal one.
  int32_t Excess(int32_t tenant, Count count, int32_t equal) const;
  bool MayTakeFrom(int32_t victim, int32_t tenant, Count count,
                   int32_t equal) const;
  // The tenant has as many slots as it may.
  bool AtMost(int32_t tenant) const;
  // The tenant has slots and may take from no other one, idle or not.
  bool OnlyOwn(int32_t tenant, Count count) const;
  // The tenant whose idle slot goes to `tenant`; of several with as many the
  // one whose goes back furthest. -1: none.
  int32_t PickVictim(int32_t tenant, Count count) const;
  int32_t OldestIdle(int32_t tenant) const;  // -1: it has none
  void EvictFrom(int32_t tenant, const Adapter& wanted);
  // Adds the slot to what its tenant has, or takes it off.
  void CountSlot(const Slot& slot, int32_t sign);
  void Release(int32_t slot, LeaseKind kind);
  void Settle(int32_t slot);
  void Free(int32_t slot);

  std::vector<Slot> slots_;
  std::vector<int32_t> free_;  // descending: the lowest slot is taken first
  std::vector<Tenant> tenants_;
  absl::flat_hash_map<std::string, int32_t> tenant_index_;
  AdapterKeyMap<int32_t> index_;
  EvictionListener on_eviction_;
  int32_t leased_slots_ = 0;
  int32_t used_slots_ = 0;
  int32_t idle_slots_ = 0;
  uint64_t tick_ = 0;
  uint64_t evictions_ = 0;
  uint64_t releases_ = 0;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_SLOT_TABLE_H_
