#include "runtime/kernels/cuda/launches.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

template <typename Half>
constexpr CudaKernels kTable = {
    .route = &Route,
    .shrink = &Shrink<Half>,
    .expand = &Expand<Half>,
    .embed = &Embed<Half>,
    .norm = &Norm<Half>,
    .rope = &Rope<Half>,
    .attention = &Attention<Half>,
    .gather_kv = &GatherKv,
    .activate = &Activate<Half>,
    .clear_blocks = &ClearBlocks,
    .widen_logits = &WidenLogits<Half>,
    .sample = &Sample,
    .accept_drafts = &AcceptDrafts,
};

}  // namespace

const CudaKernels* TableOf(HalfType half) {
  return half == HalfType::kBf16 ? &kTable<BFloat16> : &kTable<Float16>;
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
