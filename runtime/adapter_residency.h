// Which adapters are in memory, for those who ask from other threads.
#ifndef DESCANT_RUNTIME_ADAPTER_RESIDENCY_H_
#define DESCANT_RUNTIME_ADAPTER_RESIDENCY_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/adapter_key.h"
#include "runtime/base/mutex.h"
#include "runtime/engine.h"

namespace descant {

// One thread changes it, any thread reads it.
class AdapterResidency {
 public:
  using Listener = std::function<void(const ResidentAdapter&)>;

  // `listener`, which may be null, hears each change of a level or a pin, on
  // the thread that made it.
  explicit AdapterResidency(Listener listener)
      : listener_(std::move(listener)) {}

  // It came into host memory or a slot. The first name it came under is kept.
  void EnterHost(const Adapter& adapter, uint64_t bytes);
  void EnterDevice(const Adapter& adapter, uint64_t bytes);
  // It went. Nothing happens where it wasn't there.
  void LeaveHost(AdapterKeyView key);
  void LeaveDevice(AdapterKeyView key);
  void SetPinned(const Adapter& adapter, bool pinned);

  AdapterLevel LevelOf(AdapterKeyView key, bool* pinned) const;
  std::vector<ResidentAdapter> List() const;

 private:
  struct Entry {
    ResidentAdapter is;  // level and bytes follow from the rest
    bool told_pinned = false;
    bool on_host = false;
    bool on_device = false;
    uint64_t host_bytes = 0;
    uint64_t device_bytes = 0;
  };

  // `change` edits the entry, which is made where there is none.
  template <typename Edit>
  void Change(const Adapter& adapter, Edit edit);
  template <typename Edit>
  void ChangeExisting(AdapterKeyView key, Edit edit);
  // Brings the entry up to date, removes it where it says nothing any more.
  // True: `changed` is to be told.
  bool Settle(AdapterKeyMap<Entry>::iterator entry, ResidentAdapter* changed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Listener listener_;
  mutable Mutex mutex_;
  AdapterKeyMap<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_ADAPTER_RESIDENCY_H_
