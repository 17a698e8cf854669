// What each kernel's file defines for the table, in the compiler's namespace.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_LAUNCHES_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_LAUNCHES_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/kernels/cuda/cuda_sampling.h"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

// Half: BFloat16 or Float16; instantiated for both.
absl::Status Route(const RouteArgs& args);
template <typename Half>
absl::Status Shrink(const ShrinkArgs& args);
template <typename Half>
absl::Status Expand(const ExpandArgs& args);
template <typename Half>
absl::Status Embed(const EmbedArgs& args);
template <typename Half>
absl::Status Norm(const NormArgs& args);
template <typename Half>
absl::Status Rope(const RopeArgs& args);
template <typename Half>
absl::Status Attention(const CudaAttentionArgs& args);
template <typename Half>
absl::Status Activate(const ActivateArgs& args);
template <typename Half>
absl::Status WidenLogits(const WidenLogitsArgs& args);
// These move bits.
absl::Status GatherKv(const GatherKvArgs& args);
absl::Status ClearBlocks(const ClearBlocksArgs& args);
// These know nothing of 16-bit types.
absl::Status Sample(const SampleArgs& args);
absl::Status AcceptDrafts(const AcceptArgs& args);

// The table itself.
const CudaKernels* TableOf(HalfType half);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_LAUNCHES_CUH_
