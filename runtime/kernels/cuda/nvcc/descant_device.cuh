// What CUDA kernels are written in, where nvcc compiles them: CUDA C++, and
// names for what the emulation of tests/testing/cuda_emulation does in another
// way (shared memory, 16-byte accesses, atomics, inline PTX). Which of the two
// files of this name a kernel gets is decided by the include path.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_NVCC_DESCANT_DEVICE_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_NVCC_DESCANT_DEVICE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/launch.h"

#define DESCANT_CUDA_NAMESPACE cuda

namespace descant::kernels::cuda {

// The bits of a bfloat16, of an IEEE half.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

__device__ __forceinline__ float ToFloat(BFloat16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
__device__ __forceinline__ float ToFloat(Float16 value) {
  return __half2float(__ushort_as_half(value.bits));
}

// To nearest even.
template <typename Half>
__device__ Half FromFloat(float value);
template <>
__device__ __forceinline__ BFloat16 FromFloat<BFloat16>(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}
template <>
__device__ __forceinline__ Float16 FromFloat<Float16>(float value) {
  return {__half_as_ushort(__float2half_rn(value))};
}

// ---- shared memory

template <typename T>
using SharedPtr = T*;

#define DESCANT_SHARED(type, name, count)              \
  __shared__ __align__(16) type name##_array[(count)]; \
  type* const name = name##_array

template <typename To, typename T>
__device__ __forceinline__ To* SharedCast(T* pointer) {
  return reinterpret_cast<To*>(pointer);
}

// ---- 16 bytes at once, global or shared

template <typename T>
__device__ __forceinline__ uint4 Load16(const T* from) {
  return *reinterpret_cast<const uint4*>(from);
}
template <typename T>
__device__ __forceinline__ void Store16(T* to, uint4 value) {
  *reinterpret_cast<uint4*>(to) = value;
}

// ---- inline PTX; see the emulation's twin for who holds what

template <typename Half>
__device__ void Mma16816(float (&d)[4], const uint32_t (&a)[4],
                         const uint32_t (&b)[2]);
template <>
__device__ __forceinline__ void Mma16816<BFloat16>(float (&d)[4],
                                                   const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void Mma16816<Float16>(float (&d)[4],
                                                  const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- launch

// UNAVAILABLE: no device or driver; INTERNAL: what the runtime says.
inline absl::Status StatusOf(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text = absl::StrCat(what, ": ", cudaGetErrorString(error));
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    return absl::UnavailableError(text);
  }
  return absl::InternalError(text);
}

template <typename... Parameters, typename... Arguments>
absl::Status LaunchKernel(const char* name, void (*kernel)(Parameters...),
                          const LaunchShape& shape,
                          const Arguments&... arguments) {
  const dim3 grid(shape.grid.x, shape.grid.y, shape.grid.z);
  const dim3 block(shape.block.x, shape.block.y, shape.block.z);
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(shape.stream)>>>(
      arguments...);
  return StatusOf(name, cudaGetLastError());
}

}  // namespace descant::kernels::cuda

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_NVCC_DESCANT_DEVICE_CUH_
