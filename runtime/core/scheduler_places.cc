// Scheduler: who may take one of the last places among those that run.
//
// Else the long queue of one tenant takes them all, and another one's request
// waits until an answer ends, however little its tenant sends.
#include <algorithm>
#include <limits>

#include "runtime/core/scheduler.h"

namespace descant {
namespace {

// Of all places, one in so many is kept for tenants that run less than their
// share.
constexpr int32_t kKeptPlaces = 8;
// Sequences that run however long their steps take.
constexpr int32_t kMinActive = 8;
// Of a step's time, that decodes may take: what is left are prefills' rows, so
// a prompt is computed at no less than half of the machine's speed.
constexpr double kDecodesTime = 0.5;

}  // namespace

void Scheduler::CountRunning() {
  active_ = 0;
  decodes_ = {};
  held_counter_ = std::numeric_limits<int64_t>::max();
  for (const Sequence* sequence : running_) {
    if (!sequence->paused) CountActive(*sequence);
  }
}

void Scheduler::CountActive(const Sequence& sequence) {
  ++active_;
  decodes_.AddRows(sequence.length(), 1);
  const auto tenant = static_cast<size_t>(sequence.tenant);
  if (active_of_.size() <= tenant) active_of_.resize(tenant + 1);
  TenantActive& of = active_of_[tenant];
  if (of.pass != pass_) of = {pass_, 0};
  ++of.count;
}

int32_t Scheduler::ActiveOf(TokenFairness::Tenant tenant) const {
  const auto index = static_cast<size_t>(tenant);
  if (index >= active_of_.size() || active_of_[index].pass != pass_) return 0;
  return active_of_[index].count;
}

bool Scheduler::RunsLessThanShare(TokenFairness::Tenant tenant) const {
  return ActiveOf(tenant) < fairness_.ShareOf(tenant) * active_;
}

bool Scheduler::IsTight() const {
  if (fairness_.size() > 1 && max_running_ - active_ - kept_state_slots_ <=
                                  max_running_ / kKeptPlaces) {
    return true;
  }
  if (options_.target_step_seconds == 0 || active_ < kMinActive ||
      !step_time_.fitted()) {
    return false;
  }
  StepWork work = decodes_;
  work.AddRows(0, 1);
  work.adapter_bytes = steps_[1 - newest_].work.adapter_bytes;
  return step_time_.Predict(work) > kDecodesTime * options_.target_step_seconds;
}

// kAdmitted: as far as this is concerned.
Scheduler::Admission Scheduler::TakePlace(const Sequence& sequence) {
  const TokenFairness::Tenant tenant = sequence.tenant;
  const int64_t counter = fairness_.counter(tenant);
  if (counter - fairness_.Charged(tenant, kMaxLead) > held_counter_) {
    return Admission::kHeld;
  }
  if (!IsTight() || ActiveOf(tenant) == 0 || RunsLessThanShare(tenant)) {
    return Admission::kAdmitted;
  }
  held_counter_ = std::min(held_counter_, counter);
  return Admission::kHeld;
}

}  // namespace descant
