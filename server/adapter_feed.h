// Changes of adapters, on their way to those who watch.
#ifndef DESCANT_SERVER_ADAPTER_FEED_H_
#define DESCANT_SERVER_ADAPTER_FEED_H_

#include <memory>
#include <string>
#include <vector>

#include "adapters/registry.h"
#include "runtime/base/mutex.h"

namespace descant {

// What happened to a version of an adapter.
struct AdapterChange {
  enum Kind {
    kPublished,  // the name stands for this version now
    kDeleted,    // the name is gone
    kChanged,    // another state, level or pin
  };
  Kind kind = kChanged;
  std::string tenant;
  std::string name;
  std::string digest;
};

// Thread-safe. Publishers call it with locks of their own held: watchers only
// note the change.
class AdapterFeed {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // On the publisher's thread, in the order of the changes. Must be quick
    // and call nothing that publishes.
    virtual void Changed(const AdapterChange& change) = 0;
  };

  // `watcher` hears of `tenant`'s adapters from now on, while it lives.
  void Subscribe(std::string tenant, std::weak_ptr<Watcher> watcher);

  void Publish(const AdapterChange& change);

 private:
  struct Subscription {
    std::string tenant;
    std::weak_ptr<Watcher> watcher;
  };

  Mutex mutex_;
  std::vector<Subscription> subscriptions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_FEED_H_
