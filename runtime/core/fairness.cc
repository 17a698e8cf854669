#include "runtime/core/fairness.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/base/check.h"

namespace descant {
namespace {

// Idle tenants are forgotten beyond this many counters.
constexpr int32_t kPruneAbove = 1024;

}  // namespace

TokenFairness::Tenant TokenFairness::Enter(absl::string_view name,
                                           int32_t weight) {
  DESCANT_CHECK(weight >= 1 && weight <= kMaxTenantWeight);
  if (const auto found = index_.find(name); found != index_.end()) {
    Entry& entry = entries_[found->second];
    if (entry.requests++ > 0) weights_ -= entry.weight;
    entry.weight = weight;
    weights_ += weight;
    return found->second;
  }
  if (size() >= kPruneAbove) Prune();
  Tenant tenant = 0;
  if (free_.empty()) {
    tenant = static_cast<Tenant>(entries_.size());
    entries_.emplace_back();
  } else {
    tenant = free_.back();
    free_.pop_back();
  }
  entries_[tenant] = {std::string(name), 0, weight, 1, 0, false, false};
  index_.emplace(std::string(name), tenant);
  weights_ += weight;
  return tenant;
}

void TokenFairness::Leave(Tenant tenant) {
  Entry& entry = entries_[tenant];
  DESCANT_CHECK(entry.requests > 0);
  if (--entry.requests == 0) weights_ -= entry.weight;
}

void TokenFairness::Queued(Tenant tenant) {
  Entry& entry = entries_[tenant];
  if (entry.queued == 0) {
    entry.counter =
        std::max(entry.counter, Level() - Charged(tenant, kMaxCredit));
  }
  ++entry.queued;
}

void TokenFairness::Unqueued(Tenant tenant) {
  Entry& entry = entries_[tenant];
  DESCANT_CHECK(entry.queued > 0);
  if (--entry.queued > 0) return;
  entry.was_ready = false;
  if (!std::exchange(entry.passed_over, false)) last_left_ = entry.counter;
}

void TokenFairness::PassedOver(Tenant tenant) {
  Entry& entry = entries_[tenant];
  DESCANT_CHECK(entry.queued > 0);
  entry.passed_over = true;
  if (std::exchange(entry.was_ready, false)) last_left_ = entry.counter;
}

bool TokenFairness::Ready(Tenant tenant) {
  Entry& entry = entries_[tenant];
  entry.was_ready = true;
  if (!entry.passed_over) return false;
  const int64_t lowest = Level() - Charged(tenant, kMaxArrears);
  entry.passed_over = false;
  if (entry.counter >= lowest) return false;
  entry.counter = lowest;
  return true;
}

int64_t TokenFairness::Level() {
  int64_t lowest = std::numeric_limits<int64_t>::max();
  bool any = false;
  for (const Entry& entry : entries_) {
    if (entry.queued == 0 || entry.passed_over) continue;
    lowest = std::min(lowest, entry.counter);
    any = true;
  }
  level_ = std::max(level_, any ? lowest : last_left_);
  return level_;
}

// A counter that would be lifted on return can be dropped at no loss. Of the
// others the tenant keeps its debt.
void TokenFairness::Prune() {
  const int64_t level = Level();
  for (Tenant tenant = 0; tenant < static_cast<Tenant>(entries_.size());
       ++tenant) {
    Entry& entry = entries_[tenant];
    if (entry.requests > 0 ||
        entry.counter > level - Charged(tenant, kMaxCredit)) {
      continue;
    }
    const auto found = index_.find(entry.name);
    if (found == index_.end() || found->second != tenant) continue;
    index_.erase(found);
    free_.push_back(tenant);
  }
}

}  // namespace descant
