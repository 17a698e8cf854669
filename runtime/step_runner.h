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

  // For every sequence of the batch its result, or `failed`. Valid until the
  // next call. REQUIRES: a batch with sequences.
  const StepOutput& Run(const Batch& batch);

  // Why sequences of the last Run failed; OK where none did.
  const absl::Status& failure() const { return failure_; }

 private:
  absl::StatusOr<const StepOutput*> RunOnce(const Batch& batch);
  void RunPart(const Batch& batch, int32_t begin, int32_t end);

  Runner* const runner_;
  Batch slice_;
  StepOutput whole_;  // of a step in pieces
  absl::Status failure_;
  int32_t runs_ = 0;  // of this step
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_STEP_RUNNER_H_
