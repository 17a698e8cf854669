#include "runtime/adapter_prefetch.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace descant {

void AdapterPrefetch::Add(const std::shared_ptr<const Adapter>& adapter,
                          bool fetch) {
  auto it = entries_.find(KeyOf(*adapter));
  if (it == entries_.end()) {
    it = entries_.try_emplace(AdapterKey(*adapter)).first;
    it->second.adapter = adapter;
  }
  Entry& entry = it->second;
  ++entry.requests;
  if (!fetch || entry.state != State::kNone) return;
  entry.state = State::kQueued;
  queue_.push_back(entry.adapter);
}

bool AdapterPrefetch::Remove(AdapterKeyView key) {
  const auto it = entries_.find(key);
  DESCANT_CHECK(it != entries_.end());
  if (--it->second.requests > 0) return false;
  const bool was_active = Leave(&it->second);
  entries_.erase(it);
  return was_active;
}

std::shared_ptr<const Adapter> AdapterPrefetch::Take(
    std::shared_ptr<const Adapter> adapter) {
  if (adapter == nullptr) return nullptr;
  Entry& entry = entries_.find(KeyOf(*adapter))->second;
  queue_.erase(std::find(queue_.begin(), queue_.end(), adapter));
  actives_.push_back(adapter);
  entry.state = State::kActive;
  return adapter;
}

void AdapterPrefetch::Fetched(AdapterKeyView key, HostTier::Hold hold) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.state != State::kActive) return;
  it->second.hold = std::move(hold);
}

void AdapterPrefetch::End(AdapterKeyView key) {
  const auto it = entries_.find(key);
  if (it != entries_.end()) Leave(&it->second);
}

void AdapterPrefetch::Clear() {
  entries_.clear();
  queue_.clear();
  actives_.clear();
}

bool AdapterPrefetch::active(AdapterKeyView key) const {
  const auto it = entries_.find(key);
  return it != entries_.end() && it->second.state == State::kActive;
}

int32_t AdapterPrefetch::ActiveOf(absl::string_view tenant) const {
  return static_cast<int32_t>(std::count_if(
      actives_.begin(), actives_.end(),
      [tenant](const auto& adapter) { return adapter->tenant == tenant; }));
}

bool AdapterPrefetch::Leave(Entry* entry) {
  const bool was_active = entry->state == State::kActive;
  std::vector<std::shared_ptr<const Adapter>>* line =
      was_active                       ? &actives_
      : entry->state == State::kQueued ? &queue_
                                       : nullptr;
  if (line != nullptr) {
    line->erase(std::find(line->begin(), line->end(), entry->adapter));
  }
  entry->state = State::kNone;
  entry->hold.Release();
  return was_active;
}

}  // namespace descant
