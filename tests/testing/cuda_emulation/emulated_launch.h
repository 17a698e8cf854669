// A kernel's launch, emulated: all blocks, one after the other.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_LAUNCH_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_LAUNCH_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "runtime/kernels/cuda/launch.h"

namespace descant::cuda_emulation {

// Of all launches from now on: in which order blocks and threads run.
void SetSeed(uint64_t seed);

// INTERNAL: what the launch does wrong (EmulatedBlock), or a limit of the
// hardware (CUDA C++ Programming Guide, table of technical specifications) that
// its sizes are beyond; the message begins with `name`.
absl::Status RunGrid(const char* name, const kernels::LaunchShape& shape,
                     const std::function<void()>& body);

}  // namespace descant::cuda_emulation

namespace descant::kernels::cuda_emulated {

template <typename... Parameters, typename... Arguments>
absl::Status LaunchKernel(const char* name, void (*kernel)(Parameters...),
                          const LaunchShape& shape,
                          const Arguments&... arguments) {
  return cuda_emulation::RunGrid(name, shape, [&] { kernel(arguments...); });
}

}  // namespace descant::kernels::cuda_emulated

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_LAUNCH_H_
