// Lays scheduled rows out as a Batch: one segment per adapter slot.
#ifndef DESCANT_RUNTIME_CORE_BATCH_BUILDER_H_
#define DESCANT_RUNTIME_CORE_BATCH_BUILDER_H_

#include <cstdint>
#include <vector>

#include "runtime/core/batch.h"
#include "runtime/core/sequence.h"

namespace descant {

// A sequence's part of a step: the rows [begin, begin + rows) of its tokens.
struct ScheduledRows {
  Sequence* sequence = nullptr;
  int32_t begin = 0;  // position of the first row
  int32_t rows = 0;
  int32_t generated = 0;    // tokens generated before this step
  int32_t drafts = 0;       // rows behind them, of guessed tokens
  int32_t scored : 31 = 0;  // rows, the last before a sample, that score
  // The last row samples a token, and with it each row of a draft.
  bool output : 1 = false;
};

// Sizes the arrays of `batch` for `limits`, so that Build allocates nothing.
void ReserveBatch(const BatchLimits& limits, Batch* batch);

// Sorts `scheduled` by slot (no adapter first), then state slot, and fills
// `batch`; their order is then the same. Block tables cover all rows.
void BuildBatch(uint64_t step, std::vector<ScheduledRows>* scheduled,
                Batch* batch);

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_BATCH_BUILDER_H_
