// Kernels of int8 weights: one scale for each output channel, found at load,
// and one for each row of activations, found in the step.
//
// A block is 32 columns of W^T: fp32 scale[32], int32 offset[32], then int8
// values, element (k, n) at [k / 4][n][k % 4], K rounded up to 64 and zero from
// the tensor's K on. So a group of four along K is one operand of vpdpbusd, and
// 64 of them are two AMX tiles. w(k, n) = scale[n] * value(k, n), values in
// [-127, 127]; offset[n] = 128 * sum of the column's values.
//
// Activations are unsigned, because the instructions want one operand so: x(k)
// = scale * (q(k) - 128), q in [1, 255].
//
// Sums are exact in int32 and what follows is the same few fp32 operations in
// every instruction set, so all sets give equal bits.
#ifndef DESCANT_RUNTIME_KERNELS_INT8_H_
#define DESCANT_RUNTIME_KERNELS_INT8_H_

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/layout.h"

namespace descant::kernels {

// K of a block is a multiple of it.
inline constexpr int32_t kInt8Depth = 64;
// Largest K whose sums fit: 255 * 127 * K < 2^31.
inline constexpr int32_t kInt8MaxDepth = 65536;
// Of the block's scales and offsets, before its values.
inline constexpr int64_t kInt8HeaderBytes = 2 * 4 * kColumnBlock;

// A multiple of 64.
constexpr int64_t Int8BlockBytes(int64_t k) {
  return kInt8HeaderBytes +
         (k + kInt8Depth - 1) / kInt8Depth * kInt8Depth * kColumnBlock;
}

// C[m, 32] = float(A[m, k] * values - offset) * (a_scale[m] * scale[32]), each
// product rounded. k: a multiple of kInt8Depth. A: row stride lda; whatever
// its padding holds, the weights there are zero. C: row stride ldc, 64-byte
// aligned rows are faster. `next`: the block that this thread multiplies by
// next, to be fetched meanwhile; or null.
using GemmInt8Fn = void (*)(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                            const float* a_scale, const std::byte* block,
                            const std::byte* next, float* c, int64_t ldc);

// One row: *scale = max|x| / 127 and q[i] = 128 + round(x[i] * 127 / max|x|),
// ties to even. n: a multiple of 32. Where max|x| < 1e-30, q is 128. Where a
// value is infinite or no number, so is *scale.
using QuantiseFn = void (*)(const bf16_t* x, int32_t n, uint8_t* q,
                            float* scale);

// A NormFn (kernels.h) whose result y is quantised as above, from its fp32
// values; q has `padded` elements. `out` gets bf16(y), or is null.
using NormQuantiseFn = void (*)(const float* x, const float* weight,
                                const float* bias, int32_t n, int32_t padded,
                                float eps, bf16_t* out, uint8_t* q,
                                float* scale);

struct Int8Kernels {
  GemmInt8Fn gemm;
  QuantiseFn quantise;
  NormQuantiseFn rms_norm;
  NormQuantiseFn layer_norm;
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_INT8_H_
