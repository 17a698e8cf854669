#include "adapters/host_tier.h"

#include "runtime/base/check.h"

namespace descant {

HostTier::Hold& HostTier::Hold::operator=(Hold&& other) noexcept {
  if (this != &other) {
    Release();
    tier_ = std::exchange(other.tier_, nullptr);
    entry_ = std::exchange(other.entry_, nullptr);
    image_ = std::move(other.image_);
  }
  return *this;
}

void HostTier::Hold::Release() {
  if (tier_ != nullptr) std::exchange(tier_, nullptr)->Release(entry_);
  image_.reset();
}

HostTier::HostTier(uint64_t capacity_bytes) : capacity_(capacity_bytes) {
  stats_.capacity = capacity_bytes;
}

HostTier::~HostTier() {
  MutexLock lock(&mutex_);
  for (const Entry& entry : lru_) DESCANT_CHECK(entry.holds == 0);
}

HostTier::Hold HostTier::Find(AdapterKeyView key) {
  MutexLock lock(&mutex_);
  Hold hold = Use(key);
  ++(hold.image_ != nullptr ? stats_.hits : stats_.misses);
  return hold;
}

HostTier::Hold HostTier::Peek(AdapterKeyView key) {
  MutexLock lock(&mutex_);
  return Use(key);
}

bool HostTier::Contains(AdapterKeyView key) const {
  MutexLock lock(&mutex_);
  return index_.contains(key);
}

HostTier::Hold HostTier::Insert(AdapterKeyView key,
                                std::shared_ptr<const AdapterImage> image,
                                std::vector<Evicted>* evicted) {
  MutexLock lock(&mutex_);
  if (Hold hold = Use(key); hold.image_ != nullptr) return hold;
  const uint64_t bytes = image->bytes();
  const auto plan = PlanEvictions(key.tenant, bytes);
  if (!plan.has_value()) {
    Hold alone;
    alone.image_ = std::move(image);
    return alone;
  }
  for (const Lru::iterator victim : *plan) {
    ++stats_.evictions;
    index_.erase(victim->key);
    evicted->push_back({victim->key, victim->image});
    Remove(victim);
  }
  const Lru::iterator entry = lru_.insert(lru_.end(), Entry());
  entry->self = entry;
  entry->key = AdapterKey(std::string(key.tenant), std::string(key.digest));
  entry->image = std::move(image);
  index_.emplace(entry->key, &*entry);
  Tenant& tenant = tenants_[entry->key.tenant];
  ++tenant.entries;
  tenant.bytes += bytes;
  ++stats_.adapters;
  stats_.bytes += bytes;
  return HoldOn(&*entry);
}

std::shared_ptr<const AdapterImage> HostTier::Drop(AdapterKeyView key) {
  MutexLock lock(&mutex_);
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  Entry* entry = found->second;
  index_.erase(found);
  std::shared_ptr<const AdapterImage> image = entry->image;
  entry->dropped = true;
  if (entry->holds == 0) Remove(entry->self);
  return image;
}

HostTierStats HostTier::Stats() const {
  MutexLock lock(&mutex_);
  return stats_;
}

HostTier::Hold HostTier::Use(AdapterKeyView key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return Hold();
  Entry* entry = found->second;
  lru_.splice(lru_.end(), lru_, entry->self);
  return HoldOn(entry);
}

HostTier::Hold HostTier::HoldOn(Entry* entry) {
  ++entry->holds;
  Hold hold;
  hold.tier_ = this;
  hold.entry_ = entry;
  hold.image_ = entry->image;
  return hold;
}

void HostTier::Release(Entry* entry) {
  MutexLock lock(&mutex_);
  DESCANT_CHECK(entry->holds > 0);
  // The hold still has the image: nothing is freed here.
  if (--entry->holds == 0 && entry->dropped) Remove(entry->self);
}

std::optional<std::vector<HostTier::Lru::iterator>> HostTier::PlanEvictions(
    absl::string_view tenant, uint64_t bytes) {
  std::vector<Lru::iterator> plan;
  if (bytes > capacity_) return std::nullopt;
  uint64_t left = capacity_ - stats_.bytes;
  if (left >= bytes) return plan;
  struct Holder {
    uint64_t bytes = 0;
    Lru::iterator next;  // what it would lose next
  };
  std::map<absl::string_view, Holder> holders;
  holders[tenant] = {0, lru_.begin()};
  for (const auto& [name, has] : tenants_) {
    holders[name] = {has.bytes, lru_.begin()};
  }
  const uint64_t share = capacity_ / holders.size();
  Holder& own = holders[tenant];
  const auto can_lose = [this](absl::string_view name, Holder* holder) {
    while (holder->next != lru_.end() &&
           (holder->next->key.tenant != name || holder->next->holds > 0)) {
      ++holder->next;
    }
    return holder->next != lru_.end();
  };
  while (left < bytes) {
    Holder* victim = nullptr;
    for (auto& [name, holder] : holders) {
      if (&holder == &own || holder.bytes <= share ||
          holder.bytes < own.bytes + bytes || !can_lose(name, &holder)) {
        continue;
      }
      if (victim == nullptr || holder.bytes > victim->bytes) victim = &holder;
    }
    if (victim == nullptr && can_lose(tenant, &own)) victim = &own;
    if (victim == nullptr) return std::nullopt;
    const Lru::iterator taken = victim->next++;
    victim->bytes -= taken->image->bytes();
    left += taken->image->bytes();
    plan.push_back(taken);
  }
  return plan;
}

// REQUIRES: not in the index any more, no holds. Somebody else has the image.
void HostTier::Remove(Lru::iterator entry) {
  const uint64_t bytes = entry->image->bytes();
  --stats_.adapters;
  stats_.bytes -= bytes;
  const auto tenant = tenants_.find(entry->key.tenant);
  tenant->second.bytes -= bytes;
  if (--tenant->second.entries == 0) tenants_.erase(tenant);
  lru_.erase(entry);
}

void HostTier::CheckInvariants() const {
  MutexLock lock(&mutex_);
  std::map<std::string, Tenant> tenants;
  uint64_t bytes = 0;
  size_t indexed = 0;
  for (const Entry& entry : lru_) {
    DESCANT_CHECK(&*entry.self == &entry && entry.holds >= 0);
    DESCANT_CHECK(!entry.dropped || entry.holds > 0);
    bytes += entry.image->bytes();
    Tenant& tenant = tenants[entry.key.tenant];
    tenant.bytes += entry.image->bytes();
    ++tenant.entries;
    if (entry.dropped) continue;
    ++indexed;
    const auto found = index_.find(entry.key);
    DESCANT_CHECK(found != index_.end() && found->second == &entry);
  }
  DESCANT_CHECK(indexed == index_.size());
  DESCANT_CHECK(stats_.adapters == static_cast<int64_t>(lru_.size()));
  DESCANT_CHECK(bytes == stats_.bytes && bytes <= capacity_);
  DESCANT_CHECK(tenants.size() == tenants_.size());
  for (const auto& [name, tenant] : tenants) {
    const auto found = tenants_.find(name);
    DESCANT_CHECK(found != tenants_.end());
    DESCANT_CHECK(found->second.bytes == tenant.bytes &&
                  found->second.entries == tenant.entries);
  }
}

}  // namespace descant
