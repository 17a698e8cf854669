#include "runtime/adapter_residency.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace descant {

template <typename Edit>
void AdapterResidency::Change(const Adapter& adapter, Edit edit) {
  ResidentAdapter changed;
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    const auto [entry, inserted] = entries_.try_emplace(AdapterKey(adapter));
    if (inserted) {
      ResidentAdapter& is = entry->second.is;
      is.tenant = adapter.tenant;
      is.name = adapter.name;
      is.digest = adapter.digest;
    }
    // Not known before the tensors' header was read, where there is a source.
    entry->second.is.rank = std::max(entry->second.is.rank, adapter.max_rank);
    edit(&entry->second);
    tell = Settle(entry, &changed);
  }
  if (tell && listener_) listener_(changed);
}

template <typename Edit>
void AdapterResidency::ChangeExisting(AdapterKeyView key, Edit edit) {
  ResidentAdapter changed;
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    const auto entry = entries_.find(key);
    if (entry == entries_.end()) return;
    edit(&entry->second);
    tell = Settle(entry, &changed);
  }
  if (tell && listener_) listener_(changed);
}

bool AdapterResidency::Settle(AdapterKeyMap<Entry>::iterator entry,
                              ResidentAdapter* changed) {
  Entry& e = entry->second;
  const AdapterLevel level = e.on_device ? AdapterLevel::kDevice
                             : e.on_host ? AdapterLevel::kHost
                                         : AdapterLevel::kDisk;
  const bool tell = level != e.is.level || e.told_pinned != e.is.pinned;
  e.is.level = level;
  e.told_pinned = e.is.pinned;
  e.is.bytes = e.on_device ? e.device_bytes : e.on_host ? e.host_bytes : 0;
  *changed = e.is;
  if (level == AdapterLevel::kDisk && !e.is.pinned) entries_.erase(entry);
  return tell;
}

void AdapterResidency::EnterHost(const Adapter& adapter, uint64_t bytes) {
  Change(adapter, [bytes](Entry* entry) {
    entry->on_host = true;
    entry->host_bytes = bytes;
  });
}

void AdapterResidency::EnterDevice(const Adapter& adapter, uint64_t bytes) {
  Change(adapter, [bytes](Entry* entry) {
    entry->on_device = true;
    entry->device_bytes = bytes;
  });
}

void AdapterResidency::LeaveHost(AdapterKeyView key) {
  ChangeExisting(key, [](Entry* entry) { entry->on_host = false; });
}

void AdapterResidency::LeaveDevice(AdapterKeyView key) {
  ChangeExisting(key, [](Entry* entry) { entry->on_device = false; });
}

void AdapterResidency::SetPinned(const Adapter& adapter, bool pinned) {
  Change(adapter, [pinned](Entry* entry) { entry->is.pinned = pinned; });
}

AdapterLevel AdapterResidency::LevelOf(AdapterKeyView key, bool* pinned) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(key);
  const bool found = entry != entries_.end();
  if (pinned != nullptr) *pinned = found && entry->second.is.pinned;
  return found ? entry->second.is.level : AdapterLevel::kDisk;
}

std::vector<ResidentAdapter> AdapterResidency::List() const {
  std::vector<ResidentAdapter> list;
  {
    MutexLock lock(&mutex_);
    list.reserve(entries_.size());
    for (const auto& [key, entry] : entries_) list.push_back(entry.is);
  }
  std::sort(list.begin(), list.end(),
            [](const ResidentAdapter& a, const ResidentAdapter& b) {
              return std::tie(a.tenant, a.name, a.digest) <
                     std::tie(b.tenant, b.name, b.digest);
            });
  return list;
}

}  // namespace descant
