// Arrays of the kernels' tests in memory that host and device share.
#include "tests/gpu/gpu_memory.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant {
namespace {

void CheckCuda(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::abort();
}

}  // namespace

namespace gpu {

absl::Status Synchronise() {
  const cudaError_t error = cudaDeviceSynchronize();
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("on the device: ", cudaGetErrorString(error)));
}

}  // namespace gpu

namespace cuda_emulation {

// An allocation of its own, of just these bytes: compute-sanitizer's memcheck
// sees an access behind it.
GuardedMemory AllocateGuarded(size_t bytes) {
  // The runtime has no allocation of nothing.
  const size_t mapped = bytes == 0 ? 16 : bytes;
  void* data = nullptr;
  CheckCuda("managed memory", cudaMallocManaged(&data, mapped));
  // By the device: for initcheck it is written.
  CheckCuda("memset", cudaMemset(data, 0xff, mapped));
  CheckCuda("memset", cudaDeviceSynchronize());
  return {data, data, mapped};
}

void FreeGuarded(const GuardedMemory& memory) {
  CheckCuda("free", cudaFree(memory.base));
}

}  // namespace cuda_emulation
}  // namespace descant
