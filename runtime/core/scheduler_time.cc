// Scheduler: how much of a prompt fits beside the decodes of a step.
#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/core/scheduler.h"

namespace descant {

// The step's work so far, and the adapter that the sequence would bring.
StepWork Scheduler::WorkWith(const Sequence& sequence) const {
  StepWork work = steps_[1 - newest_].work;
  const int32_t slot = sequence.slot();
  if (slot >= 0 && slot_pass_[slot] != pass_) {
    work.adapter_bytes += static_cast<int64_t>(slot_bytes_[slot]);
  }
  return work;
}

void Scheduler::CountWork(const ScheduledRows& part) {
  StepWork& work = steps_[1 - newest_].work;
  work.AddRows(part.begin, part.rows);
  const int32_t slot = part.sequence->slot();
  if (slot >= 0 && slot_pass_[slot] != pass_) {
    slot_pass_[slot] = pass_;
    work.adapter_bytes += static_cast<int64_t>(slot_bytes_[slot]);
  }
  if (part.sequence->rows_left() > 1) floor_left_ -= part.rows;
}

// Of `most` rows of its prefill, those that the target for this step leaves;
// never less than what is left of kMinPrefillRows.
int32_t Scheduler::RowsInTime(const Sequence& sequence, int32_t most) const {
  if (!limits_prefills_ || most == 0) return most;
  const double target = options_.target_step_seconds *
                        (RunsLessThanShare(sequence.tenant) ? kCatchUpTime : 1);
  const int32_t rows = step_time_.RowsWithin(target, WorkWith(sequence),
                                             sequence.scheduled_length, most);
  return std::max(rows, std::clamp(floor_left_, 0, most));
}

void Scheduler::UseMerged(const MergedWeights* merged) {
  Step& step = steps_[newest_];
  DESCANT_CHECK(scheduled_ == &step.batch && !step.batch.empty());
  step.batch.merged = merged;
  step.work.adapter_bytes = 0;  // of its own: it reads none
}

void Scheduler::SlotLoaded(int32_t slot, uint64_t bytes) {
  slot_bytes_[slot] = bytes;
  slots_.EndLoad(slot, true);
}

double Scheduler::StepTook(double seconds) {
  const double predicted =
      step_time_.fitted() ? step_time_.Predict(updated_work_) : 0;
  step_time_.Observe(updated_work_, seconds);
  if (observed_rows_ > 0) draft_budget_.Observe(observed_rows_, seconds);
  return predicted;
}

}  // namespace descant
