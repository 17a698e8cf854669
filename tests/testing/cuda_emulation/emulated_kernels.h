// The CUDA kernels over the emulation: the same table, good for host memory.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_KERNELS_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_KERNELS_H_

#include "runtime/kernels/cuda/cuda_kernels.h"

namespace descant::kernels::cuda_emulated {

const CudaKernels* TableOf(HalfType half);

}  // namespace descant::kernels::cuda_emulated

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_KERNELS_H_
