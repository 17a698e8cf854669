#include "runtime/adapter_loader.h"

#include <utility>

#include "adapters/adapter.h"

namespace descant {

AdapterLoader::AdapterLoader(Runner* runner, std::function<void()> wake)
    : runner_(runner), wake_(std::move(wake)) {
  thread_ = std::thread([this] { Run(); });
}

void AdapterLoader::Start(int32_t slot,
                          std::shared_ptr<const Adapter> adapter) {
  MutexLock lock(&mutex_);
  queue_.push_back({slot, absl::OkStatus(), false, std::move(adapter)});
  changed_.Signal();
}

void AdapterLoader::TakeLoaded(std::vector<LoadedSlot>* loaded) {
  loaded->clear();
  MutexLock lock(&mutex_);
  loaded->swap(loaded_);
}

void AdapterLoader::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void AdapterLoader::Run() {
  while (true) {
    LoadedSlot job;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job = Load(job.slot, std::move(job.adapter));
    {
      MutexLock lock(&mutex_);
      loaded_.push_back(std::move(job));
    }
    wake_();
  }
}

LoadedSlot AdapterLoader::Load(int32_t slot,
                               std::shared_ptr<const Adapter> adapter) {
  LoadedSlot result;
  result.slot = slot;
  if (adapter->source != nullptr) {
    absl::StatusOr<std::shared_ptr<const Adapter>> read =
        adapter->source->Load(*adapter);
    if (!read.ok()) {
      result.status = std::move(read).status();
      return result;
    }
    adapter = *std::move(read);
  }
  result.status = runner_->LoadAdapter(slot, adapter);
  result.no_room = absl::IsResourceExhausted(result.status);
  if (result.no_room) result.adapter = std::move(adapter);
  return result;
}

}  // namespace descant
