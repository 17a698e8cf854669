// The device that tests of the CUDA runner ask for: the GPU.
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "runtime/model/cuda_device.h"
#include "tests/runtime/model/host_device.h"

namespace descant {

std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half) {
  auto device = MakeCudaDevice(0, half);
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", device.status().ToString().c_str());
    std::abort();
  }
  return *std::move(device);
}

}  // namespace descant
