// What a scheduler is built for.
#ifndef DESCANT_RUNTIME_CORE_SCHEDULER_OPTIONS_H_
#define DESCANT_RUNTIME_CORE_SCHEDULER_OPTIONS_H_

#include <cstdint>
#include <vector>

#include "runtime/core/batch.h"

namespace descant {

// See SchedulerOptions::target_step_seconds.
inline constexpr int32_t kMinPrefillRows = 16;
inline constexpr double kCatchUpTime = 2;

struct SchedulerOptions {
  BatchLimits limits;         // of the runner
  int32_t num_blocks = 0;     // of the KV cache, >= 1
  int32_t max_model_len = 0;  // tokens of prompt and answer
  int32_t max_running_sequences = 0;
  bool prefix_cache = true;
  // Of a sequence in a step, in [0, kMaxDraftTokens]. They have outputs beyond
  // one a sequence, as limits.max_outputs has them.
  int32_t max_draft_tokens = 0;
  int32_t max_adapters = 0;  // distinct ones that run at a time; 0: max_slots
  // Prefills take no more rows of a step that has decodes than fit into this
  // time by what steps took before (StepTimeModel), but always
  // kMinPrefillRows: a prompt with P rows to compute, others before it
  // included, has its first token after at most ceil(P / kMinPrefillRows) steps
  // that have blocks for it. 0: as many as there is room for.
  // The prefill of a tenant that runs less than its share of sequences has
  // kCatchUpTime times as long. And sequences that would decode for longer than
  // half of it are not admitted, but for such tenants.
  double target_step_seconds = 0;
  std::vector<int32_t> eos_token_ids;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_SCHEDULER_OPTIONS_H_
