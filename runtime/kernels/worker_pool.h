// The threads that compute a step: one per CPU this process may use, each
// pinned to its own, the caller among them.
#ifndef DESCANT_RUNTIME_KERNELS_WORKER_POOL_H_
#define DESCANT_RUNTIME_KERNELS_WORKER_POOL_H_

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace descant::kernels {

// CPUs this process may run on, limited by its cgroup's quota; at least 1. As
// at the first call in the process, before any thread was pinned.
int32_t AvailableCpus();

// One parallel region at a time, with barriers inside. Workers wait for a
// bounded time awake, then asleep, so that other threads on the same CPUs get
// their turn. Inside a region denormals are zero.
class WorkerPool {
 public:
  // 0: AvailableCpus(). More threads than CPUs are not pinned.
  explicit WorkerPool(int32_t threads);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // REQUIRES: no region is running.
  ~WorkerPool();

  int32_t size() const { return static_cast<int32_t>(threads_.size()) + 1; }
  // The node of memory (numa.h) near a worker; 0 for workers that float.
  int32_t NodeOf(int32_t worker) const;

  // Calls task(context, worker) once for every worker in [0, size()), the
  // caller being worker 0 (pinned for the time of the call); returns when
  // all are done. REQUIRES: one caller at a time, and no call from inside.
  using Task = void (*)(void* context, int32_t worker);
  void Run(Task task, void* context);

  // Inside a region: waits until every worker is here. What was written
  // before is seen by all after. Every worker calls it equally often.
  void Barrier();

 private:
  void Work(int32_t worker);

  std::vector<std::thread> threads_;
  std::vector<int32_t> cpus_;  // of each worker; empty: not pinned
  Task task_ = nullptr;
  void* context_ = nullptr;

  // A counter that threads wait on.
  struct alignas(64) Signal {
    std::atomic<uint32_t> value{0};
    std::atomic<uint32_t> sleepers{0};
  };
  static void Wait(Signal* signal, uint32_t old_value);
  static void Advance(Signal* signal);

  Signal region_;   // grows by one for each region
  Signal barrier_;  // grows by one for each completed barrier
  alignas(64) std::atomic<int32_t> arrived_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_WORKER_POOL_H_
