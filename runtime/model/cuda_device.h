// A GPU as a Device.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_DEVICE_H_
#define DESCANT_RUNTIME_MODEL_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/model/device.h"

namespace descant {

// UNIMPLEMENTED: this build has no CUDA. UNAVAILABLE: no driver or no such
// device. FAILED_PRECONDITION: an older GPU than the kernels are for, or
// LibTorch's CUDA libraries are not there, with the loader's own words.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int32_t index,
                                                       kernels::HalfType half);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_DEVICE_H_
