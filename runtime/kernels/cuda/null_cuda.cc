#include "runtime/kernels/cuda/cuda_backend.h"

namespace descant::kernels {
namespace {

absl::Status NotBuilt() {
  return absl::UnimplementedError("this build has no CUDA backend");
}

}  // namespace

bool CudaBuilt() { return false; }

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() { return NotBuilt(); }

const CudaKernels* CudaKernelsOf(HalfType) { return nullptr; }

}  // namespace descant::kernels
