// How long work in the background gives way to steps.
#ifndef DESCANT_RUNTIME_STEPS_FIRST_H_
#define DESCANT_RUNTIME_STEPS_FIRST_H_

#include <atomic>
#include <chrono>

#include "runtime/base/pacing.h"

namespace descant {

// Lowers this thread's priority below the kernel workers, which share the cores
// with it. For good.
void WorkBehindSteps();

// While steps run, after each `piece` of work the thread sleeps `rest` times as
// long, so that a step loses little.
class StepsFirst final : public Pacer {
 public:
  // `steps_run` outlives it.
  StepsFirst(const std::atomic<bool>* steps_run,
             std::chrono::microseconds piece, int rest)
      : steps_run_(steps_run), piece_(piece), rest_(rest) {}

  void Begin() { piece_began_ = std::chrono::steady_clock::now(); }
  void Breathe() override;

 private:
  const std::atomic<bool>* const steps_run_;
  const std::chrono::microseconds piece_;
  const int rest_;
  std::chrono::steady_clock::time_point piece_began_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_STEPS_FIRST_H_
