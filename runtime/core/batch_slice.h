// Parts of a batch and of its results, for a step that is computed in pieces.
#ifndef DESCANT_RUNTIME_CORE_BATCH_SLICE_H_
#define DESCANT_RUNTIME_CORE_BATCH_SLICE_H_

#include <cstdint>

#include "runtime/core/batch.h"

namespace descant {

// Replaces `slice` by the sequences [begin, end) of `batch`, of the same step:
// a batch of its own, whose rows give what they give in the whole one.
// REQUIRES: 0 <= begin < end <= batch.sequences.size().
void SliceBatch(const Batch& batch, int32_t begin, int32_t end, Batch* slice);

// Appends the results of a slice to those of the slices before it.
void AppendOutput(const StepOutput& part, StepOutput* whole);

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_BATCH_SLICE_H_
