// Where the time of a step on the CPU goes, by phase: for benches. A runner
// without a timer pays one test of a pointer at each end of a phase.
#ifndef DESCANT_RUNTIME_MODEL_CPU_PHASE_TIMER_H_
#define DESCANT_RUNTIME_MODEL_CPU_PHASE_TIMER_H_

#include <x86intrin.h>

#include <array>
#include <cstdint>
#include <vector>

namespace descant {

enum class CpuPhase : int32_t {
  kEmbed,  // and clearing new KV blocks
  kNorm,
  kShrink,
  kQkv,
  kRope,  // and writing the KV cache
  kAttention,
  kOut,
  kGateUp,
  kDown,
  kHead,
  kSample,
};
inline constexpr int32_t kCpuPhases = 11;
inline constexpr const char* kCpuPhaseNames[kCpuPhases] = {
    "embed", "norm",    "shrink", "qkv",  "rope",  "attention",
    "out",   "gate_up", "down",   "head", "sample"};

// Ticks of the time-stamp counter that each worker spends in each phase:
// working, and waiting at the phase's barriers for the others. Each worker
// books its own; read it between steps only.
class CpuPhaseTimer {
 public:
  struct Ticks {
    uint64_t work = 0;
    uint64_t wait = 0;
  };

  explicit CpuPhaseTimer(int32_t workers) : workers_(workers) {}

  // A worker enters a step.
  void Begin(int32_t worker) { workers_[worker].last = __rdtsc(); }
  // It is at a barrier; it has left it.
  void Arrive(int32_t worker) { Advance(worker, &Ticks::work); }
  void Leave(int32_t worker) { Advance(worker, &Ticks::wait); }
  // All since the last end was `phase`.
  void End(int32_t worker, CpuPhase phase) {
    Advance(worker, &Ticks::work);
    Worker& mine = workers_[worker];
    Ticks& total = mine.phases[static_cast<int32_t>(phase)];
    total.work += mine.open.work;
    total.wait += mine.open.wait;
    mine.open = {};
  }

  // Mean over the workers, summed over the steps since the last Clear.
  Ticks Total(CpuPhase phase) const {
    Ticks sum;
    for (const Worker& worker : workers_) {
      sum.work += worker.phases[static_cast<int32_t>(phase)].work;
      sum.wait += worker.phases[static_cast<int32_t>(phase)].wait;
    }
    return {sum.work / workers_.size(), sum.wait / workers_.size()};
  }
  void Clear() { workers_.assign(workers_.size(), Worker()); }

 private:
  struct alignas(64) Worker {
    uint64_t last = 0;
    Ticks open;  // not booked under a phase yet
    std::array<Ticks, kCpuPhases> phases;
  };

  void Advance(int32_t worker, uint64_t Ticks::*kind) {
    Worker& mine = workers_[worker];
    const uint64_t now = __rdtsc();
    mine.open.*kind += now - mine.last;
    mine.last = now;
  }

  std::vector<Worker> workers_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_PHASE_TIMER_H_
