// How many calls of one kind run at a time.
#ifndef DESCANT_SERVER_CALL_LIMIT_H_
#define DESCANT_SERVER_CALL_LIMIT_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "runtime/base/mutex.h"

namespace descant {

// Thread-safe. With tenants on, one of them never takes every place.
class CallLimit {
 public:
  CallLimit(int total, int per_tenant)
      : total_(total), per_tenant_(per_tenant) {}

  // False: no place. Where tenants are off ("") only the total counts.
  bool TryAcquire(const std::string& tenant) {
    MutexLock lock(&mutex_);
    if (held_ >= total_) return false;
    int& mine = by_tenant_[tenant];
    if (!tenant.empty() && mine >= per_tenant_) return false;
    ++mine;
    ++held_;
    return true;
  }

  // REQUIRES: a place that TryAcquire gave and that was not released.
  void Release(const std::string& tenant) {
    MutexLock lock(&mutex_);
    --held_;
    const auto it = by_tenant_.find(tenant);
    if (--it->second == 0) by_tenant_.erase(it);
  }

  int held() const {
    MutexLock lock(&mutex_);
    return held_;
  }

 private:
  const int total_;
  const int per_tenant_;
  mutable Mutex mutex_;
  int held_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, int> by_tenant_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_CALL_LIMIT_H_
