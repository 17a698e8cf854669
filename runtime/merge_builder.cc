#include "runtime/merge_builder.h"

#include <time.h>

#include <chrono>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/steps_first.h"

namespace descant {
namespace {

// Nobody waits for a build; a second of it is shared by hundreds of steps.
constexpr std::chrono::microseconds kPiece{100};
constexpr int kRest = 8;

constexpr std::chrono::seconds kTick{5};

// Of this thread: what it took from others, however long it rested.
double CpuSeconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) +
         1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

MergeBuilder::MergeBuilder(const Runner* runner, std::function<void()> wake)
    : runner_(runner), wake_(std::move(wake)) {
  thread_ = std::thread([this] { Run(); });
}

void MergeBuilder::Build(std::shared_ptr<const Adapter> adapter) {
  MutexLock lock(&mutex_);
  DESCANT_CHECK(wanted_ == nullptr && !built_.has_value());
  wanted_ = std::move(adapter);
  changed_.Signal();
}

std::optional<BuiltWeights> MergeBuilder::Take() {
  MutexLock lock(&mutex_);
  return std::exchange(built_, std::nullopt);
}

void MergeBuilder::Discard(std::shared_ptr<const MergedWeights> weights) {
  if (weights == nullptr) return;
  MutexLock lock(&mutex_);
  discarded_.push_back(std::move(weights));
  changed_.Signal();
}

void MergeBuilder::SetTicks(bool ticks) {
  MutexLock lock(&mutex_);
  if (std::exchange(ticks_, ticks) != ticks) changed_.Signal();
}

void MergeBuilder::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void MergeBuilder::Run() {
  WorkBehindSteps();
  StepsFirst pacer(&steps_run_, kPiece, kRest);
  const ScopedPacer paced(&pacer);
  std::vector<std::shared_ptr<const MergedWeights>> discarded;
  while (true) {
    std::shared_ptr<const Adapter> wanted;
    bool tick = false;
    {
      MutexLock lock(&mutex_);
      while (wanted_ == nullptr && discarded_.empty() && !stopping_ && !tick) {
        if (!ticks_) {
          changed_.Wait(&mutex_);
        } else {
          tick = !changed_.WaitUntil(&mutex_,
                                     std::chrono::steady_clock::now() + kTick);
        }
      }
      if (stopping_) return;
      discarded.swap(discarded_);
      wanted = std::move(wanted_);
      wanted_ = nullptr;
    }
    discarded.clear();
    if (wanted != nullptr) {
      pacer.Begin();
      BuiltWeights built = BuildNow(std::move(wanted));
      MutexLock lock(&mutex_);
      built_ = std::move(built);
      tick = true;
    }
    if (tick) wake_();
  }
}

// No memory for it is no reason to end the server.
BuiltWeights MergeBuilder::BuildNow(
    std::shared_ptr<const Adapter> adapter) const {
  const double begin = CpuSeconds();
  BuiltWeights built;
  try {
    const absl::StatusOr<std::shared_ptr<const Adapter>> whole =
        WithTensors(std::move(adapter));
    if (whole.ok()) {
      built.weights = runner_->MergeAdapter(*whole);
    } else {
      built.weights = whole.status();
    }
  } catch (const std::exception& error) {
    built.weights =
        absl::ResourceExhaustedError(absl::StrCat("exception: ", error.what()));
  }
  built.seconds = CpuSeconds() - begin;
  return built;
}

}  // namespace descant
