#include "server/egress.h"

#include <utility>

namespace descant {

Egress::Egress(const Clock* clock)
    : clock_(clock), thread_([this] { Run(); }) {}

Egress::~Egress() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.SignalAll();
  thread_.join();
}

void Egress::Wake(std::shared_ptr<Call> call) {
  bool was_idle = false;
  {
    MutexLock lock(&mutex_);
    was_idle = awake_.empty();
    awake_.push_back(std::move(call));
  }
  if (was_idle) wake_.Signal();
}

void Egress::Watch(std::weak_ptr<Call> call) {
  MutexLock lock(&mutex_);
  arrived_.push_back(std::move(call));
}

void Egress::Run() {
  std::vector<std::shared_ptr<Call>> batch;
  MonotonicTime next_sweep = clock_->Now() + kSweepInterval;
  while (true) {
    {
      MutexLock lock(&mutex_);
      while (awake_.empty() && !stopping_) {
        if (!wake_.WaitUntil(&mutex_, next_sweep)) break;
      }
      if (stopping_ && awake_.empty()) return;
      batch.swap(awake_);
      for (auto& call : arrived_) watched_.push_back(std::move(call));
      arrived_.clear();
    }
    for (const auto& call : batch) call->Flush();
    batch.clear();
    const MonotonicTime now = clock_->Now();
    if (now >= next_sweep) {
      SweepAll(now);
      next_sweep = now + kSweepInterval;
    }
  }
}

void Egress::SweepAll(MonotonicTime now) {
  size_t kept = 0;
  for (auto& watched : watched_) {
    const std::shared_ptr<Call> call = watched.lock();
    if (call == nullptr) continue;
    call->Sweep(now);
    watched_[kept++] = call;
  }
  watched_.resize(kept);
}

}  // namespace descant
