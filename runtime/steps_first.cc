#include "runtime/steps_first.h"

#include <sys/resource.h>

#include <thread>

namespace descant {
namespace {

constexpr int kNice = 5;  // added to the value that the thread starts with

}  // namespace

void WorkBehindSteps() {
  // On Linux a thread has a nice value of its own; 0 is this thread. No harm
  // where it fails.
  ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + kNice);
}

void StepsFirst::Breathe() {
  const auto worked = std::chrono::steady_clock::now() - piece_began_;
  if (worked < piece_) return;
  if (steps_run_->load(std::memory_order_relaxed)) {
    std::this_thread::sleep_for(worked * rest_);
  }
  Begin();
}

}  // namespace descant
