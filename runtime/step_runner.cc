#include "runtime/step_runner.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/core/batch_slice.h"

namespace descant {

StepRunner::StepRunner(Runner* runner) : runner_(runner) {}

void StepRunner::Launch(const Batch& batch) {
  DESCANT_CHECK(in_flight_ == nullptr);
  runs_ = 0;
  failure_ = absl::OkStatus();
  in_flight_ = &batch;
  launched_ = TryLaunch(batch);
}

const StepOutput& StepRunner::Collect() {
  const Batch& batch = *std::exchange(in_flight_, nullptr);
  const absl::StatusOr<const StepOutput*> output = TryCollect(launched_);
  if (output.ok()) return **output;
  LogError("step ", batch.step, " failed, and is run in parts: ",
           LogSafe(output.status().ToString()));
  failure_ = output.status();
  whole_.Clear();
  whole_.step = batch.step;
  const int32_t count = static_cast<int32_t>(batch.sequences.size());
  if (count > 1) {
    RunPart(batch, 0, count / 2);
    RunPart(batch, count / 2, count);
  } else {
    RunPart(batch, 0, count);
  }
  return whole_;
}

// Also an exception is a failed step: a library's, or no memory.
absl::Status StepRunner::TryLaunch(const Batch& batch) {
  ++runs_;
  try {
    return runner_->Launch(batch);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("exception: ", error.what()));
  }
}

absl::StatusOr<const StepOutput*> StepRunner::TryCollect(
    const absl::Status& launched) {
  if (!launched.ok()) return launched;
  try {
    return runner_->Collect();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("exception: ", error.what()));
  }
}

void StepRunner::RunPart(const Batch& batch, int32_t begin, int32_t end) {
  if (runs_ < kMaxRuns) {
    SliceBatch(batch, begin, end, &slice_);
    const absl::StatusOr<const StepOutput*> output =
        TryCollect(TryLaunch(slice_));
    if (output.ok()) return AppendOutput(**output, &whole_);
    if (end - begin > 1) {
      const int32_t middle = begin + (end - begin) / 2;
      RunPart(batch, begin, middle);
      RunPart(batch, middle, end);
      return;
    }
    failure_ = output.status();
  }
  for (int32_t i = begin; i < end; ++i) {
    StepOutput::PerSequence& failed = whole_.sequences.emplace_back();
    failed.id = batch.sequences[i].id;
    failed.state_slot = batch.sequences[i].state_slot;
    failed.begin = failed.end = static_cast<int32_t>(whole_.sampled.size());
    failed.failed = true;
  }
}

}  // namespace descant
