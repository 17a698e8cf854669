#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/cuda_backend.h"
#include "runtime/kernels/cuda/launches.cuh"

namespace descant::kernels {
namespace {

absl::Status Unavailable(const char* what, cudaError_t error) {
  return absl::UnavailableError(
      absl::StrCat(what, ": ", cudaGetErrorString(error)));
}

}  // namespace

bool CudaBuilt() { return true; }

absl::StatusOr<std::vector<CudaDevice>> ListCudaDevices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count);
      error != cudaSuccess) {
    return Unavailable("no CUDA device", error);
  }
  if (count == 0) return absl::UnavailableError("no CUDA device");
  int driver = 0;
  if (const cudaError_t error = cudaDriverGetVersion(&driver);
      error != cudaSuccess) {
    return Unavailable("CUDA driver", error);
  }
  std::vector<CudaDevice> devices(count);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i);
        error != cudaSuccess) {
      return Unavailable("CUDA device properties", error);
    }
    devices[i] = {
        properties.name,  properties.totalGlobalMem,      properties.major,
        properties.minor, properties.multiProcessorCount, driver};
  }
  return devices;
}

const CudaKernels* CudaKernelsOf(HalfType half) { return cuda::TableOf(half); }

}  // namespace descant::kernels
