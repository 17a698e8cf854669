// The functions that tests of the emulated kernels call, on the device: each
// launches the real kernel, out of the table that the server uses, and waits
// for it.
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/cuda/cuda_backend.h"
#include "runtime/kernels/cuda/launches.cuh"
#include "tests/gpu/gpu_memory.h"

namespace descant::kernels::cuda_emulated {
namespace {

template <typename Half>
const CudaKernels& Table() {
  return *CudaKernelsOf(std::is_same_v<Half, BFloat16> ? HalfType::kBf16
                                                       : HalfType::kFp16);
}

template <typename Args>
absl::Status Run(absl::Status (*launch)(const Args&), const Args& args) {
  const absl::Status status = launch(args);
  return status.ok() ? gpu::Synchronise() : status;
}

}  // namespace

absl::Status Route(const RouteArgs& args) {
  return Run(Table<BFloat16>().route, args);
}
absl::Status GatherKv(const GatherKvArgs& args) {
  return Run(Table<BFloat16>().gather_kv, args);
}
absl::Status ClearBlocks(const ClearBlocksArgs& args) {
  return Run(Table<BFloat16>().clear_blocks, args);
}
absl::Status Sample(const SampleArgs& args) {
  return Run(Table<BFloat16>().sample, args);
}
absl::Status AcceptDrafts(const AcceptArgs& args) {
  return Run(Table<BFloat16>().accept_drafts, args);
}

template <typename Half>
absl::Status Shrink(const ShrinkArgs& args) {
  return Run(Table<Half>().shrink, args);
}
template <typename Half>
absl::Status Expand(const ExpandArgs& args) {
  return Run(Table<Half>().expand, args);
}
template <typename Half>
absl::Status Embed(const EmbedArgs& args) {
  return Run(Table<Half>().embed, args);
}
template <typename Half>
absl::Status Norm(const NormArgs& args) {
  return Run(Table<Half>().norm, args);
}
template <typename Half>
absl::Status Rope(const RopeArgs& args) {
  return Run(Table<Half>().rope, args);
}
template <typename Half>
absl::Status Attention(const CudaAttentionArgs& args) {
  return Run(Table<Half>().attention, args);
}
template <typename Half>
absl::Status Activate(const ActivateArgs& args) {
  return Run(Table<Half>().activate, args);
}
template <typename Half>
absl::Status WidenLogits(const WidenLogitsArgs& args) {
  return Run(Table<Half>().widen_logits, args);
}

template absl::Status Shrink<BFloat16>(const ShrinkArgs& args);
template absl::Status Shrink<Float16>(const ShrinkArgs& args);
template absl::Status Expand<BFloat16>(const ExpandArgs& args);
template absl::Status Expand<Float16>(const ExpandArgs& args);
template absl::Status Embed<BFloat16>(const EmbedArgs& args);
template absl::Status Embed<Float16>(const EmbedArgs& args);
template absl::Status Norm<BFloat16>(const NormArgs& args);
template absl::Status Norm<Float16>(const NormArgs& args);
template absl::Status Rope<BFloat16>(const RopeArgs& args);
template absl::Status Rope<Float16>(const RopeArgs& args);
template absl::Status Attention<BFloat16>(const CudaAttentionArgs& args);
template absl::Status Attention<Float16>(const CudaAttentionArgs& args);
template absl::Status Activate<BFloat16>(const ActivateArgs& args);
template absl::Status Activate<Float16>(const ActivateArgs& args);
template absl::Status WidenLogits<BFloat16>(const WidenLogitsArgs& args);
template absl::Status WidenLogits<Float16>(const WidenLogitsArgs& args);

}  // namespace descant::kernels::cuda_emulated

// The hardware has an order of its own.
void descant::cuda_emulation::SetSeed(uint64_t) {}
