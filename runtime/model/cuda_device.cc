#include "runtime/model/cuda_device.h"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/cuda/cuda_backend.h"
#include "runtime/model/cuda_device_module.h"

namespace descant {
namespace {

// CMAKE_CUDA_ARCHITECTURES, in DescantCuda.cmake.
constexpr int32_t kOldestArchitecture = 8;

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int32_t index,
                                                       kernels::HalfType half) {
  DESCANT_ASSIGN_OR_RETURN(const std::vector<kernels::CudaDevice> devices,
                           kernels::ListCudaDevices());
  if (index < 0 || index >= static_cast<int32_t>(devices.size())) {
    return absl::UnavailableError(absl::StrCat("no CUDA device ", index));
  }
  const kernels::CudaDevice& gpu = devices[index];
  const std::string name =
      absl::StrCat(gpu.name, ", sm_", gpu.compute_major, gpu.compute_minor);
  if (gpu.compute_major < kOldestArchitecture) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, ": the kernels are built for sm_",
                     kOldestArchitecture, "0 and later"));
  }
  // Stays open: what it made is used until the process ends.
  void* module = dlopen(kCudaDeviceModule, RTLD_NOW | RTLD_LOCAL);
  void* factory =
      module == nullptr ? nullptr : dlsym(module, kCudaDeviceFactory);
  if (factory == nullptr) {
    const char* why = dlerror();
    return absl::FailedPreconditionError(
        absl::StrCat("the CUDA runtime can't be loaded (deploy/setup.sh --cuda "
                     "fetches its libraries): ",
                     why == nullptr ? kCudaDeviceModule : why));
  }
  return reinterpret_cast<CudaDeviceFactory*>(factory)(
      index, name, half, kernels::CudaKernelsOf(half));
}

}  // namespace descant
