// Eight fp32 at once, and what a warp does with one of each lane.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_FLOATS_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_FLOATS_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

inline constexpr int32_t kWarpLanes = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;

// Pointer: const float* or SharedPtr<float>, at a multiple of 16 bytes.
template <typename Pointer>
__device__ __forceinline__ void LoadFloats(Pointer from,
                                           float (&out)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    const uint4 packed = Load16(from + i);
    out[i] = __uint_as_float(packed.x);
    out[i + 1] = __uint_as_float(packed.y);
    out[i + 2] = __uint_as_float(packed.z);
    out[i + 3] = __uint_as_float(packed.w);
  }
}

template <typename Pointer>
__device__ __forceinline__ void StoreFloats(Pointer to,
                                            const float (&in)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    Store16(to + i,
            uint4{__float_as_uint(in[i]), __float_as_uint(in[i + 1]),
                  __float_as_uint(in[i + 2]), __float_as_uint(in[i + 3])});
  }
}

// Every lane gets the same bits: addition is commutative.
__device__ __forceinline__ float WarpSum(float value) {
#pragma unroll
  for (int bits = kWarpLanes / 2; bits > 0; bits /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, bits);
  }
  return value;
}

__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int bits = kWarpLanes / 2; bits > 0; bits /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, bits));
  }
  return value;
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_FLOATS_CUH_
