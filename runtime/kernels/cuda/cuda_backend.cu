#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/cuda_backend.h"

namespace descant::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxRowBlocks = 65535;

__global__ void ScaleRows(const float* __restrict__ scale, int64_t rows,
                          int64_t columns, float* __restrict__ x) {
  const int64_t column =
      static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    x[row * columns + column] *= scale[row];
  }
}

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
  std::vector<CudaDevice> devices(count);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i);
        error != cudaSuccess) {
      return Unavailable("CUDA device properties", error);
    }
    devices[i] = {properties.name, properties.totalGlobalMem, properties.major,
                  properties.minor, properties.multiProcessorCount};
  }
  return devices;
}

absl::Status CudaScaleRows(const float* scale, int64_t rows, int64_t columns,
                           float* x, void* stream) {
  if (rows == 0 || columns == 0) return absl::OkStatus();
  const dim3 grid(
      static_cast<unsigned>((columns + kThreads - 1) / kThreads),
      static_cast<unsigned>(rows < kMaxRowBlocks ? rows : kMaxRowBlocks));
  ScaleRows<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      scale, rows, columns, x);
  const cudaError_t error = cudaGetLastError();
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    return Unavailable("no CUDA device", error);
  }
  if (error != cudaSuccess) {
    return absl::InternalError(
        absl::StrCat("scale rows: ", cudaGetErrorString(error)));
  }
  return absl::OkStatus();
}

}  // namespace descant::kernels
