// Eight values of 16 bits at once.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_VECTORS_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_VECTORS_CUH_

#include <descant_device.cuh>

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

inline constexpr int32_t kVector = 8;  // halves in 16 bytes

// A launch whose threads have a vector of a row each: blockIdx.x is the row.
inline LaunchShape ShapeOfRows(int32_t rows, int32_t width, int32_t threads,
                               void* stream) {
  const int32_t columns = threads * kVector;
  return {.grid = {static_cast<uint32_t>(rows),
                   static_cast<uint32_t>((width + columns - 1) / columns)},
          .block = {static_cast<uint32_t>(threads)},
          .stream = stream};
}

template <typename Half>
__device__ __forceinline__ void Unpack(uint4 packed, float (&out)[kVector]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = ToFloat(Half{static_cast<uint16_t>(words[i])});
    out[2 * i + 1] = ToFloat(Half{static_cast<uint16_t>(words[i] >> 16)});
  }
}

template <typename Half>
__device__ __forceinline__ uint4 Pack(const float (&in)[kVector]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = FromFloat<Half>(in[2 * i]).bits |
               static_cast<uint32_t>(FromFloat<Half>(in[2 * i + 1]).bits) << 16;
  }
  return {words[0], words[1], words[2], words[3]};
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_VECTORS_CUH_
