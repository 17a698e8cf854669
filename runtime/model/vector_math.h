// The three loops over the vocabulary that a sampler needs, four floats at a
// time in the compiler's vector types: plain SSE2 on x86, the same bits on
// every machine.
#ifndef DESCANT_RUNTIME_MODEL_VECTOR_MATH_H_
#define DESCANT_RUNTIME_MODEL_VECTOR_MATH_H_

#include <cstdint>

#include "absl/types/span.h"

namespace descant {

struct ArgMax {
  int32_t index = 0;  // lowest index of the maximum
  float value = 0;
  bool finite = true;  // no NaN or infinity anywhere; else the rest is 0
};

// One pass. REQUIRES: not empty.
ArgMax FindArgMax(absl::Span<const float> values);

// out[i] = exp((values[i] - shift) * scale), relative error below 3e-7; 0
// below exp(-87). REQUIRES: finite values, values[i] <= shift, scale > 0, out
// as long as values.
void ExpShifted(absl::Span<const float> values, float shift, float scale,
                absl::Span<float> out);

// In double and in a fixed order.
double SumInOrder(absl::Span<const float> values);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_VECTOR_MATH_H_
