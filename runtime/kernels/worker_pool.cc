#include "runtime/kernels/worker_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <chrono>
#include <climits>

#include "runtime/base/check.h"
#include "runtime/kernels/cgroup_quota.h"
#include "runtime/kernels/numa.h"

namespace descant::kernels {
namespace {

// Long enough for the engine's own work between two steps.
constexpr std::chrono::microseconds kSpin{100};

// Flush to zero, denormals are zero: as vdpbf16ps does anyway.
constexpr unsigned kFlushDenormals = 0x8040;

// A node's CPUs one behind the other: neighbouring workers share a node, and a
// quota is spent on as few of them as can be.
std::vector<int32_t> ReadCpus() {
  std::vector<int32_t> cpus;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  const NumaNodes& nodes = NumaNodes::OfMachine();
  std::stable_sort(cpus.begin(), cpus.end(), [&](int32_t a, int32_t b) {
    return nodes.NodeOf(a) < nodes.NodeOf(b);
  });
  const size_t quota = static_cast<size_t>(CgroupCpus());
  if (cpus.size() > quota) cpus.resize(quota);
  return cpus;
}

// Read once: a thread that is pinned would see only its own CPU.
const std::vector<int32_t>& ProcessCpus() {
  static const std::vector<int32_t>* cpus = new std::vector(ReadCpus());
  return *cpus;
}

void Pin(int32_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Refused when the affinity changed under us: then the thread floats.
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void FutexWait(std::atomic<uint32_t>* word, uint32_t value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Pins the calling thread and flushes its denormals, until it goes.
class CallerState {
 public:
  explicit CallerState(const std::vector<int32_t>& cpus)
      : pinned_(!cpus.empty()), csr_(_mm_getcsr()) {
    _mm_setcsr(csr_ | kFlushDenormals);
    if (pinned_) {
      pinned_ = sched_getaffinity(0, sizeof affinity_, &affinity_) == 0 &&
                !(CPU_COUNT(&affinity_) == 1 && CPU_ISSET(cpus[0], &affinity_));
    }
    if (pinned_) Pin(cpus[0]);
  }
  CallerState(const CallerState&) = delete;
  CallerState& operator=(const CallerState&) = delete;
  ~CallerState() {
    if (pinned_) sched_setaffinity(0, sizeof affinity_, &affinity_);
    _mm_setcsr(csr_);
  }

 private:
  bool pinned_;
  unsigned csr_;
  cpu_set_t affinity_;
};

}  // namespace

int32_t AvailableCpus() {
  return std::max<int32_t>(1, static_cast<int32_t>(ProcessCpus().size()));
}

WorkerPool::WorkerPool(int32_t threads) {
  if (threads <= 0) threads = AvailableCpus();
  if (threads > 1 && threads <= AvailableCpus()) cpus_ = ProcessCpus();
  for (int32_t worker = 1; worker < threads; ++worker) {
    threads_.emplace_back([this, worker] { Work(worker); });
  }
}

int32_t WorkerPool::NodeOf(int32_t worker) const {
  return cpus_.empty() ? 0 : NumaNodes::OfMachine().NodeOf(cpus_[worker]);
}

WorkerPool::~WorkerPool() {
  stopping_.store(true);
  Advance(&region_);
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::Run(Task task, void* context) {
  const CallerState caller(cpus_);
  task_ = task;
  context_ = context;
  Advance(&region_);
  task(context, 0);
  Barrier();
}

void WorkerPool::Work(int32_t worker) {
  if (!cpus_.empty()) Pin(cpus_[worker]);
  _mm_setcsr(_mm_getcsr() | kFlushDenormals);
  for (uint32_t region = 0;; ++region) {
    Wait(&region_, region);
    if (stopping_.load()) return;
    task_(context_, worker);
    Barrier();
  }
}

void WorkerPool::Barrier() {
  const uint32_t old_value = barrier_.value.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
    arrived_.store(0, std::memory_order_relaxed);
    Advance(&barrier_);
  } else {
    Wait(&barrier_, old_value);
  }
}

void WorkerPool::Wait(Signal* signal, uint32_t old_value) {
  const auto changed = [&] {
    return signal->value.load(std::memory_order_acquire) != old_value;
  };
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (changed()) return;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  signal->sleepers.fetch_add(1);
  while (signal->value.load() == old_value) {
    FutexWait(&signal->value, old_value);
  }
  signal->sleepers.fetch_sub(1);
}

void WorkerPool::Advance(Signal* signal) {
  // In this order, both sequentially consistent: either we see the sleeper or
  // it sees the new value.
  signal->value.fetch_add(1);
  if (signal->sleepers.load() != 0) FutexWakeAll(&signal->value);
}

}  // namespace descant::kernels
