// What the rest of the program knows of CUDA. Implemented by cuda_backend.cu,
// or by a twin that reports "not built" where there is no CUDA compiler.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_
#define DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace descant::kernels {

struct CudaDevice {
  std::string name;
  uint64_t memory_bytes = 0;
  int32_t compute_major = 0;
  int32_t compute_minor = 0;
  int32_t multiprocessors = 0;
};

bool CudaBuilt();

// UNIMPLEMENTED: not built. UNAVAILABLE: no driver or no device, with the
// driver's own words.
absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices();

// x[r, c] *= scale[r] for fp32 x [rows, columns] and scale [rows], both in the
// current device's memory; ordered on `stream` (a cudaStream_t). Errors as
// above, and INTERNAL for a failed launch.
absl::Status CudaScaleRows(const float* scale, int64_t rows, int64_t columns,
                           float* x, void* stream);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_CUDA_BACKEND_H_
