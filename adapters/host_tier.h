// Adapter images kept in host memory, between the disk and the device: pure
// bookkeeping with a budget in bytes.
//
// Tenants share the budget. Who needs room takes images from the tenant that
// has most bytes, if that has more than an equal share and no less than the
// taker will have; else its own. Within a tenant the image used longest ago
// goes first. What is held is never evicted. An image that finds no room is
// not kept: whoever has it uses it once.
//
// Invariants (CheckInvariants): bytes() is the sum of what is kept, held images
// that were dropped included, and at most capacity(); a key has at most one
// image that is not dropped.
#ifndef DESCANT_ADAPTERS_HOST_TIER_H_
#define DESCANT_ADAPTERS_HOST_TIER_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/adapter_image.h"
#include "adapters/adapter_key.h"
#include "runtime/base/mutex.h"

namespace descant {

struct HostTierStats {
  int64_t adapters = 0;  // kept, dropped ones that are held included
  uint64_t bytes = 0;
  uint64_t capacity = 0;
  uint64_t hits = 0;  // of Find
  uint64_t misses = 0;
  uint64_t evictions = 0;
};

// Thread-safe. Images that go are handed out, so that their memory is freed by
// whoever has the time, never under the lock.
class HostTier {
  struct Entry;

 public:
  // An image in use. While it lives, the tier keeps the image. Move-only;
  // released on destruction, on any thread. Must not outlive the tier.
  class Hold {
   public:
    Hold() = default;  // on nothing
    Hold(Hold&& other) noexcept { *this = std::move(other); }
    Hold& operator=(Hold&& other) noexcept;
    ~Hold() { Release(); }

    // Null: it holds nothing.
    const std::shared_ptr<const AdapterImage>& image() const { return image_; }
    // False for an image that found no room: it is the holder's alone.
    bool kept() const { return tier_ != nullptr; }
    // Holds nothing from here on.
    void Release();

   private:
    friend class HostTier;
    HostTier* tier_ = nullptr;
    Entry* entry_ = nullptr;
    std::shared_ptr<const AdapterImage> image_;
  };

  // What Insert evicted.
  struct Evicted {
    AdapterKey key;
    std::shared_ptr<const AdapterImage> image;
  };

  // Without capacity nothing is ever kept.
  explicit HostTier(uint64_t capacity_bytes);
  // REQUIRES: no holds.
  ~HostTier();
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;

  // A hold on the adapter's image, or on nothing. Counts a hit or a miss, and
  // a use.
  Hold Find(AdapterKeyView key);
  // The same, but neither a hit nor a miss.
  Hold Peek(AdapterKeyView key);
  bool Contains(AdapterKeyView key) const;

  // Keeps `image`, if there is room or evictions make it, and appends those to
  // `evicted`. The hold has the image either way. Where the key has an image
  // already, that stays, and the hold is on it.
  Hold Insert(AdapterKeyView key, std::shared_ptr<const AdapterImage> image,
              std::vector<Evicted>* evicted);

  // Forgets the key's image and gives it back; null: it has none. Its bytes
  // are accounted until the last hold on it ends.
  std::shared_ptr<const AdapterImage> Drop(AdapterKeyView key);

  HostTierStats Stats() const;
  uint64_t capacity() const { return capacity_; }

  // Aborts on a violated invariant.
  void CheckInvariants() const;

 private:
  struct Entry {
    AdapterKey key;
    std::shared_ptr<const AdapterImage> image;
    int32_t holds = 0;
    bool dropped = false;
    std::list<Entry>::iterator self;
  };
  using Lru = std::list<Entry>;  // least recently used first
  struct Tenant {
    uint64_t bytes = 0;
    int64_t entries = 0;
  };

  Hold Use(AdapterKeyView key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Hold HoldOn(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(Entry* entry);
  // What must go so that `bytes` more fit; empty where they can't.
  std::optional<std::vector<Lru::iterator>> PlanEvictions(
      absl::string_view tenant, uint64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Lru::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t capacity_;
  mutable Mutex mutex_;
  Lru lru_ ABSL_GUARDED_BY(mutex_);
  // Sorted: what decides must not depend on the order of a hash map.
  std::map<std::string, Tenant, std::less<>> tenants_ ABSL_GUARDED_BY(mutex_);
  AdapterKeyMap<Entry*> index_ ABSL_GUARDED_BY(mutex_);
  HostTierStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_HOST_TIER_H_
