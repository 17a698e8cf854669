// The launches of sampling.cu, in the compiler's namespace.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/cuda_sampling.h"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

absl::Status Sample(const SampleArgs& args);
// After Sample(), on the same stream.
absl::Status AcceptDrafts(const AcceptArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_CUH_
