// A Device without a device: what the CUDA runner runs on in tests.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_HOST_DEVICE_H_
#define DESCANT_TESTS_RUNTIME_MODEL_HOST_DEVICE_H_

#include <cstdint>
#include <memory>

#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/model/device.h"

namespace descant {

// The host's memory, products by ATen, attention of chunks in plain loops, and
// the emulated kernels. A graph is the list of calls that were made while it
// was captured, with their arguments. Products and copies that use memory which
// was freed are INTERNAL.
std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half);
// With so many bytes of device memory. (Where MakeHostDevice gives a GPU, in
// tests/gpu, there is no such.)
std::unique_ptr<Device> MakeHostDevice(kernels::HalfType half,
                                       uint64_t capacity);

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_HOST_DEVICE_H_
