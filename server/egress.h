// The thread between the engine and gRPC: the engine thread leaves tokens with
// a call and goes on; this thread hands them to gRPC, so that no system call
// of a write happens between two steps. It also looks at open calls now and
// then, for those whose client stopped.
#ifndef DESCANT_SERVER_EGRESS_H_
#define DESCANT_SERVER_EGRESS_H_

#include <memory>
#include <thread>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"

namespace descant {

// Thread-safe. Outlives the calls it was given.
class Egress {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    // After Wake, on the egress thread.
    virtual void Flush() = 0;
    // Every kSweepInterval, on the egress thread, while the call lives.
    virtual void Sweep(MonotonicTime now) = 0;
  };

  static constexpr Duration kSweepInterval = std::chrono::milliseconds(200);

  explicit Egress(const Clock* clock);
  ~Egress();
  Egress(const Egress&) = delete;
  Egress& operator=(const Egress&) = delete;

  // Flush() soon. Several Wakes may become one Flush each: callers wake once
  // until they were flushed.
  void Wake(std::shared_ptr<Call> call);
  // Sweep() from now on.
  void Watch(std::weak_ptr<Call> call);

 private:
  void Run();
  void SweepAll(MonotonicTime now);

  const Clock* const clock_;
  Mutex mutex_;
  CondVar wake_;
  std::vector<std::shared_ptr<Call>> awake_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Call>> arrived_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<Call>> watched_;  // the egress thread's own
  std::thread thread_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_EGRESS_H_
