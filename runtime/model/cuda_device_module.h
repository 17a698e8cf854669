// The seam to the module that is linked to LibTorch's CUDA libraries: a
// gigabyte that a server without a GPU neither needs nor has. It is opened when
// a GPU is asked for.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_DEVICE_MODULE_H_
#define DESCANT_RUNTIME_MODEL_CUDA_DEVICE_MODULE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/model/device.h"

namespace descant {

inline constexpr char kCudaDeviceModule[] = "libdescant_cuda_device.so";
inline constexpr char kCudaDeviceFactory[] = "DescantMakeCudaDevice";

// `kernels` outlives the device; `name` is of the GPU.
using CudaDeviceFactory = absl::StatusOr<std::unique_ptr<Device>>(
    int32_t index, const std::string& name, kernels::HalfType half,
    const kernels::CudaKernels* kernels);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_DEVICE_MODULE_H_
