#include "runtime/adapter_loader.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/pacing.h"
#include "runtime/steps_first.h"

namespace descant {
namespace {

// Somebody waits for a load.
constexpr std::chrono::microseconds kPiece{300};
constexpr int kRest = 3;

}  // namespace
AdapterLoader::AdapterLoader(Runner* runner, std::function<void()> wake)
    : runner_(runner), wake_(std::move(wake)) {
  thread_ = std::thread([this] { Run(); });
}

void AdapterLoader::Fetch(std::shared_ptr<const Adapter> adapter) {
  LoadedAdapter job;
  job.adapter = std::move(adapter);
  MutexLock lock(&mutex_);
  queue_.push_back(std::move(job));
  changed_.Signal();
}

void AdapterLoader::Load(int32_t slot, std::shared_ptr<const Adapter> adapter,
                         std::shared_ptr<const AdapterImage> image) {
  MutexLock lock(&mutex_);
  const AdapterKeyView key = KeyOf(*adapter);
  if (packing_ != nullptr && SameKey(KeyOf(*packing_->adapter), key)) {
    DESCANT_CHECK(packing_->slot == kNoSlot);
    packing_->slot = slot;
    return;
  }
  for (LoadedAdapter& job : queue_) {
    if (!SameKey(KeyOf(*job.adapter), key)) continue;
    DESCANT_CHECK(job.slot == kNoSlot);
    job.slot = slot;
    if (image != nullptr) job.image = std::move(image);
    return;
  }
  LoadedAdapter job;
  // A Fetch that ended, and nobody has heard of it yet.
  for (const LoadedAdapter& done : done_) {
    if (image == nullptr && SameKey(KeyOf(*done.adapter), key)) {
      image = done.image;
    }
  }
  job.adapter = std::move(adapter);
  job.slot = slot;
  job.image = std::move(image);
  queue_.push_back(std::move(job));
  changed_.Signal();
}

bool AdapterLoader::Forget(AdapterKeyView key) {
  MutexLock lock(&mutex_);
  return std::erase_if(queue_, [key](const LoadedAdapter& job) {
           return job.slot == kNoSlot && SameKey(KeyOf(*job.adapter), key);
         }) > 0;
}

void AdapterLoader::Discard(std::shared_ptr<const AdapterImage> image) {
  if (image == nullptr) return;
  MutexLock lock(&mutex_);
  discarded_.push_back(std::move(image));
  changed_.Signal();
}

void AdapterLoader::TakeDone(std::vector<LoadedAdapter>* done) {
  done->clear();
  MutexLock lock(&mutex_);
  done->swap(done_);
}

void AdapterLoader::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

// Those with a slot first; of these the tenant's whose turn is longest ago.
LoadedAdapter AdapterLoader::TakeJob() {
  size_t best = 0;
  uint64_t best_served = 0;
  for (size_t i = 0; i < queue_.size(); ++i) {
    const auto turn = served_.find(queue_[i].adapter->tenant);
    const uint64_t served = turn == served_.end() ? 0 : turn->second;
    const bool with_slot = queue_[i].slot != kNoSlot;
    const bool best_with_slot = queue_[best].slot != kNoSlot;
    if (i == 0 || with_slot > best_with_slot ||
        (with_slot == best_with_slot && served < best_served)) {
      best = i;
      best_served = served;
    }
  }
  LoadedAdapter job = std::move(queue_[best]);
  queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(best));
  served_[job.adapter->tenant] = ++tick_;
  if (queue_.empty()) served_.clear();
  return job;
}

void AdapterLoader::Run() {
  WorkBehindSteps();
  StepsFirst pacer(&steps_run_, kPiece, kRest);
  const ScopedPacer paced(&pacer);
  std::vector<std::shared_ptr<const AdapterImage>> discarded;
  while (true) {
    LoadedAdapter job;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && discarded_.empty() && !stopping_) {
        changed_.Wait(&mutex_);
      }
      if (stopping_) return;
      discarded.swap(discarded_);
      if (!queue_.empty()) {
        job = TakeJob();
        packing_ = &job;
      }
    }
    discarded.clear();
    if (job.adapter == nullptr) continue;
    pacer.Begin();
    Pack(&job);
    {
      MutexLock lock(&mutex_);
      packing_ = nullptr;  // its slot is what it is
      if (job.slot == kNoSlot || !job.status.ok()) {
        done_.push_back(std::exchange(job, {}));
      }
    }
    if (job.adapter != nullptr) {
      Place(&job);
      MutexLock lock(&mutex_);
      done_.push_back(std::move(job));
    }
    wake_();
    Breathe();
  }
}

void AdapterLoader::Pack(LoadedAdapter* job) {
  if (job->image != nullptr) return;
  absl::StatusOr<std::shared_ptr<const Adapter>> adapter =
      WithTensors(job->adapter);
  if (!adapter.ok()) {
    job->status = std::move(adapter).status();
    return;
  }
  absl::StatusOr<std::shared_ptr<const AdapterImage>> image =
      runner_->PackAdapter(*adapter);
  if (!image.ok()) {
    job->status = std::move(image).status();
    return;
  }
  job->image = *std::move(image);
  job->packed = true;
}

void AdapterLoader::Place(LoadedAdapter* job) {
  job->status = runner_->LoadImage(job->slot, job->image);
  job->no_room = absl::IsResourceExhausted(job->status);
}

}  // namespace descant
