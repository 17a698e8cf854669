// One step, and where it fails, the sequences at fault.
#ifndef DESCANT_RUNTIME_STEP_RUNNER_H_
#define DESCANT_RUNTIME_STEP_RUNNER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/core/batch.h"
#include "runtime/model/runner.h"

namespace descant {

// Runs batches. A batch that fails, by a status or by an exception, is run
// again in halves, and the halves that fail in halves again: sequences that
// fail alone are at fault, all others have the results that they have in any
// batch. What a failed run wrote is written again by the next one, so no state
// is left of it. Used by one thread.
class StepRunner {
 public:
  // Runs of one step at most, the first one included; sequences that are in a
  // failing batch still have failed then. One sequence at fault among 1,024
  // takes 21.
  static constexpr int32_t kMaxRuns = 64;

  // `runner` outlives this.
  explicit StepRunner(Runner* runner);

  // Starts a batch with sequences, which stays as it is until Collect.
  // REQUIRES: none is started.
  void Launch(const Batch& batch);
  // For every sequence of that batch its result, or `failed`. Valid until the
  // next Launch.
  const StepOutput& Collect();

  // The batch that was started and is not collected, or null.
  const Batch* in_flight() const { return in_flight_; }

  // Why sequences of the last batch failed; OK where none did.
  const absl::Status& failure() const { return failure_; }

 private:
  absl::Status TryLaunch(const Batch& batch);
  absl::StatusOr<const StepOutput*> TryCollect(const absl::Status& launched);
  void RunPart(const Batch& batch, int32_t begin, int32_t end);

  Runner* const runner_;
  const Batch* in_flight_ = nullptr;
  absl::Status launched_;  // of in_flight_
  Batch slice_;
  StepOutput whole_;  // of a step in pieces
  absl::Status failure_;
  int32_t runs_ = 0;  // of this step
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_STEP_RUNNER_H_
