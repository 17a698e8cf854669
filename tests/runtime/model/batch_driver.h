// Drives a Runner through prompts and decodes without scheduler or engine:
// every step holds one chunk or one decode of each unfinished sequence, in the
// order of the Batch contract.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_BATCH_DRIVER_H_
#define DESCANT_TESTS_RUNTIME_MODEL_BATCH_DRIVER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/core/batch.h"
#include "runtime/core/request.h"
#include "runtime/model/runner.h"

namespace descant {

struct DrivenSequence {
  std::vector<int32_t> prompt;
  int32_t slot = kNoSlot;
  SamplingParams sampling;  // max_tokens: how many are generated
  // Not empty: fed instead of the sampled tokens (max_tokens of them).
  std::vector<int32_t> forced;
};

struct DrivenResult {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  bool numeric_fault = false;
};

struct DriverOptions {
  int32_t chunk = 1 << 20;  // longest prefill chunk
  // Feed decodes as kTokenFromLastStep (not with forced tokens, nor with
  // preempt_every).
  bool token_from_last_step = false;
  // Each time after so many steps every sequence loses what it computed and
  // starts again with its prompt and the tokens it has; 0: never.
  int32_t preempt_every = 0;
  // Called around each step.
  std::function<void(Batch*)> before_launch;
  std::function<void()> after_collect;
};

// Limits that hold any batch of `sequences` sequences of up to `max_length`
// tokens.
BatchLimits DriverLimits(int32_t sequences, int32_t max_length,
                         int32_t max_slots);

// Runs all sequences together. KV blocks of different sequences are
// interleaved and descending, so that a runner can't rely on their order.
absl::StatusOr<std::vector<DrivenResult>> Drive(
    Runner* runner, const std::vector<DrivenSequence>& sequences,
    const DriverOptions& options = {});

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_BATCH_DRIVER_H_
