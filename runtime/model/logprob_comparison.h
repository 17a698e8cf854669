// Two computations of one output, compared.
#ifndef DESCANT_RUNTIME_MODEL_LOGPROB_COMPARISON_H_
#define DESCANT_RUNTIME_MODEL_LOGPROB_COMPARISON_H_

#include "absl/types/span.h"
#include "runtime/model/merged_weights.h"

namespace descant {

// Of one output's logits over the vocabulary. Where a value is not finite,
// nothing else is said. REQUIRES: not empty, of one size.
LogprobDifference CompareLogits(absl::Span<const float> first,
                                absl::Span<const float> second);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_LOGPROB_COMPARISON_H_
