// Which adapters of waiting requests are fetched into host memory before their
// turn comes: pure bookkeeping.
#ifndef DESCANT_RUNTIME_ADAPTER_PREFETCH_H_
#define DESCANT_RUNTIME_ADAPTER_PREFETCH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "adapters/adapter_key.h"
#include "adapters/host_tier.h"

namespace descant {

// An adapter is queued, then active: being fetched, and then held in host
// memory until its load into a slot begins or nobody waits for it any more. At
// most `max_active` are active, so that what is fetched for one request is not
// evicted for the next. The tenant with fewest active ones is next, its oldest
// request first. Thread-compatible.
class AdapterPrefetch {
 public:
  explicit AdapterPrefetch(int32_t max_active) : max_active_(max_active) {}

  // A request for the adapter came. `fetch`: it is neither in a slot nor in
  // host memory.
  void Add(const std::shared_ptr<const Adapter>& adapter, bool fetch);
  // One ended, however it did. True: it was the last, and an active prefetch
  // ended with it.
  bool Remove(AdapterKeyView key);

  // The next one to fetch, active from now on; null when none may be. Skips
  // those that `blocked` says must wait.
  template <typename Blocked>
  std::shared_ptr<const Adapter> Next(Blocked blocked) {
    return active() < max_active_ ? Take(Pick(blocked)) : nullptr;
  }

  // The fetch of an active one ended well. Drops the hold if it isn't active.
  void Fetched(AdapterKeyView key, HostTier::Hold hold);
  // It loads into a slot, or can't be fetched: no longer prefetched.
  void End(AdapterKeyView key);
  // Ends all, and forgets all requests.
  void Clear();

  bool active(AdapterKeyView key) const;
  int32_t active() const { return static_cast<int32_t>(actives_.size()); }

 private:
  enum class State { kNone, kQueued, kActive };
  struct Entry {
    std::shared_ptr<const Adapter> adapter;
    int32_t requests = 0;
    State state = State::kNone;
    HostTier::Hold hold;
  };

  int32_t ActiveOf(absl::string_view tenant) const;
  template <typename Blocked>
  std::shared_ptr<const Adapter> Pick(Blocked blocked) const {
    std::shared_ptr<const Adapter> best;
    int32_t fewest = 0;
    for (const std::shared_ptr<const Adapter>& adapter : queue_) {
      const int32_t active = ActiveOf(adapter->tenant);
      if (best != nullptr && active >= fewest) continue;
      if (blocked(*adapter)) continue;
      best = adapter;
      fewest = active;
    }
    return best;
  }
  std::shared_ptr<const Adapter> Take(std::shared_ptr<const Adapter> adapter);
  // True: it was active.
  bool Leave(Entry* entry);

  const int32_t max_active_;
  AdapterKeyMap<Entry> entries_;                       // those with requests
  std::vector<std::shared_ptr<const Adapter>> queue_;  // by arrival
  std::vector<std::shared_ptr<const Adapter>> actives_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_PREFETCH_H_
