// What the rest of the program knows of CUDA. Implemented by cuda_backend.cu,
// or by a twin that reports "not built" where there is no CUDA compiler.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_
#define DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/kernels/cuda/cuda_kernels.h"

namespace descant::kernels {

struct CudaDevice {
  std::string name;
  uint64_t memory_bytes = 0;
  int32_t compute_major = 0;
  int32_t compute_minor = 0;
  int32_t multiprocessors = 0;
  int32_t driver = 0;  // the CUDA version that it supports: 13010 is 13.1
};

bool CudaBuilt();

// UNIMPLEMENTED: not built. UNAVAILABLE: no driver or no device, with the
// driver's own words.
absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices();

// For the current device; null where CUDA is not built.
const CudaKernels* CudaKernelsOf(HalfType half);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_
