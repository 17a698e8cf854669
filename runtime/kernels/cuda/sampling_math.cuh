// Logits, weights and noise of the sampler: the arithmetic of
// runtime/model/sampler.cc and vector_math.cc, rounded where it rounds.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_MATH_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_MATH_CUH_

#include <descant_device.cuh>

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

inline constexpr float kMaxFloat = 3.402823466e+38f;
// The logit of a token that is not to be chosen.
inline constexpr float kBannedLogit = -kMaxFloat;

__device__ __forceinline__ bool IsFinite(float value) {
  return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}

// Ascending where values descend; equal for both zeros. That of a finite value
// is not 0.
__device__ __forceinline__ uint32_t KeyOf(float value) {
  const uint32_t bits = __float_as_uint(__fadd_rn(value, 0.0f));
  return (bits >> 31) != 0 ? bits : 0x7fffffffu - bits;
}
__device__ __forceinline__ float ValueOfKey(uint32_t key) {
  return __uint_as_float((key >> 31) != 0 ? key : 0x7fffffffu - key);
}

// exp(x), x <= 0, with the bits of ExpShifted: hence no fused operations.
__device__ __forceinline__ float ExpNonPositive(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  if (x < -87.0f) return 0;
  const float rounded = __fadd_rn(__fmul_rn(x, 1.44269504f), kMagic);
  const float n = rounded - kMagic;
  const float r = __fadd_rn(__fadd_rn(x, -__fmul_rn(n, 0.693359375f)),
                            -__fmul_rn(n, -2.12194440e-4f));
  float p = __fadd_rn(__fmul_rn(r, 1.0f / 5040), 1.0f / 720);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  return __uint_as_float(__float_as_uint(p) + (__float_as_uint(rounded) << 23));
}

// Weights in [0, 1] as integers whose sums are exact: of 2^18 of them, below
// 2^63. The likeliest token's weight is 1, so what is cut off doesn't count.
__device__ __forceinline__ uint64_t FixedOf(float weight) {
  return static_cast<uint64_t>(weight * 0x1p44f);
}
__device__ __forceinline__ uint64_t FixedOf(double weight) {
  return static_cast<uint64_t>(weight * 0x1p44);
}

// The first sum that reaches `share` of `total` is the first above this one.
// REQUIRES: 0 < share < 1, total > 0.
__device__ __forceinline__ uint64_t BelowShare(float share, uint64_t total) {
  const double reach =
      ceil(static_cast<double>(share) * static_cast<double>(total));
  return static_cast<uint64_t>(reach) - 1;
}

// 53 random bits, at the upper end: Philox4x32-10 of runtime/model/philox.h.
__device__ __forceinline__ uint64_t Noise(uint64_t seed, int32_t position,
                                          int32_t choice) {
  uint32_t counter[4] = {static_cast<uint32_t>(position),
                         static_cast<uint32_t>(choice), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed),
                     static_cast<uint32_t>(seed >> 32)};
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, counter[0]);
    const uint32_t high1 = __umulhi(0xCD9E8D57u, counter[2]);
    const uint32_t low0 = 0xD2511F53u * counter[0];
    const uint32_t low1 = 0xCD9E8D57u * counter[2];
    counter[0] = high1 ^ counter[1] ^ key[0];
    counter[1] = low1;
    counter[2] = high0 ^ counter[3] ^ key[1];
    counter[3] = low0;
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  const uint64_t wide = static_cast<uint64_t>(counter[0]) << 32 | counter[1];
  return wide >> 11 << 11;
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_MATH_CUH_
