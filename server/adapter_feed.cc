#include "server/adapter_feed.h"

#include <utility>

namespace descant {

void AdapterFeed::Subscribe(std::string tenant,
                            std::weak_ptr<Watcher> watcher) {
  MutexLock lock(&mutex_);
  subscriptions_.push_back({std::move(tenant), std::move(watcher)});
}

void AdapterFeed::Publish(const AdapterChange& change) {
  // Let go of outside the lock: one may be the last owner.
  std::vector<std::shared_ptr<Watcher>> called;
  MutexLock lock(&mutex_);
  size_t kept = 0;
  for (Subscription& subscription : subscriptions_) {
    std::shared_ptr<Watcher> watcher = subscription.watcher.lock();
    if (watcher == nullptr) continue;
    if (subscription.tenant == change.tenant) {
      watcher->Changed(change);
      called.push_back(std::move(watcher));
    }
    // Not onto itself: a moved string would be emptied.
    if (&subscriptions_[kept] != &subscription) {
      subscriptions_[kept] = std::move(subscription);
    }
    ++kept;
  }
  subscriptions_.resize(kept);
}

}  // namespace descant
