#include "runtime/kernels/cuda/cuda_backend.h"

namespace descant::kernels {
namespace {

absl::Status NotBuilt() {
  return absl::UnimplementedError("this build has no CUDA backend");
}

}  // namespace

bool CudaBuilt() { return false; }

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() { return NotBuilt(); }

absl::Status CudaScaleRows(const float*, int64_t, int64_t, float*, void*) {
  return NotBuilt();
}

}  // namespace descant::kernels
