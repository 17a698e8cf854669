// Batches as a server would launch, for benches of whole steps.
#ifndef DESCANT_TESTS_BENCH_STEP_BATCHES_H_
#define DESCANT_TESTS_BENCH_STEP_BATCHES_H_

#include <cstdint>

#include "runtime/core/batch.h"

namespace descant::bench {

// `sequences` sequences with `rows` rows of random tokens each from position
// `computed` on, one output each; sequence i uses adapter slot i when
// `adapters`. Keeps a pointer to `sampling`.
Batch MakeBatch(int32_t sequences, int32_t rows, int32_t computed,
                int32_t vocab, bool adapters, const SamplingParams& sampling);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_STEP_BATCHES_H_
