// The shape of a kernel's launch. No CUDA header.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_LAUNCH_H_
#define DESCANT_RUNTIME_KERNELS_CUDA_LAUNCH_H_

#include <cstdint>

namespace descant::kernels {

struct LaunchDim {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

struct LaunchShape {
  LaunchDim grid;
  LaunchDim block;
  void* stream = nullptr;  // cudaStream_t
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_LAUNCH_H_
