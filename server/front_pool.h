// A bounded pool of threads for work that must not run on RPC threads:
// validating, tokenizing, looking up, staging uploads.
#ifndef DESCANT_SERVER_FRONT_POOL_H_
#define DESCANT_SERVER_FRONT_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "runtime/base/mutex.h"

namespace descant {

// Thread-safe. The destructor runs what was accepted, then joins.
class FrontPool {
 public:
  FrontPool(int threads, size_t max_queued);
  ~FrontPool();
  FrontPool(const FrontPool&) = delete;
  FrontPool& operator=(const FrontPool&) = delete;

  // False when `max_queued` tasks wait already: `task` was not taken.
  bool TryPost(std::function<void()> task);

  size_t queued() const;

 private:
  void Run();

  const size_t max_queued_;
  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_FRONT_POOL_H_
