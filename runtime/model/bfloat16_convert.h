// Many values at once to bf16, as ToBFloat16 of runtime/base/float16.h does
// one.
#ifndef DESCANT_RUNTIME_MODEL_BFLOAT16_CONVERT_H_
#define DESCANT_RUNTIME_MODEL_BFLOAT16_CONVERT_H_

#include <cstdint>

#include "runtime/kernels/kernels.h"

namespace descant {

// Round to nearest even; NaN stays NaN. The ranges don't overlap.
void FloatToBFloat16(const float* from, int64_t count, kernels::bf16_t* to);
// From the bits of IEEE halves.
void HalfToBFloat16(const uint16_t* from, int64_t count, kernels::bf16_t* to);

// The same on a CPU with AVX2 and F16C. Called by those above.
void FloatToBFloat16Avx2(const float* from, int64_t count, kernels::bf16_t* to);
void HalfToBFloat16Avx2(const uint16_t* from, int64_t count,
                        kernels::bf16_t* to);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_BFLOAT16_CONVERT_H_
