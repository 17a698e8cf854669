#include "server/front_pool.h"

#include <utility>

namespace descant {

FrontPool::FrontPool(int threads, size_t max_queued) : max_queued_(max_queued) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

FrontPool::~FrontPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.SignalAll();
  for (std::thread& thread : threads_) thread.join();
}

bool FrontPool::TryPost(std::function<void()> task) {
  {
    MutexLock lock(&mutex_);
    if (stopping_ || queue_.size() >= max_queued_) return false;
    queue_.push_back(std::move(task));
  }
  wake_.Signal();
  return true;
}

size_t FrontPool::queued() const {
  MutexLock lock(&mutex_);
  return queue_.size();
}

void FrontPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(&mutex_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace descant
