// What the sampler reads of the head's product, eight columns a thread.
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kThreads = 128;

template <typename Half>
__global__ void __launch_bounds__(kThreads)
    WidenLogitsKernel(const WidenLogitsArgs args) {
  const int32_t column =
      static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x) * kVector;
  if (column >= args.columns) return;
  const int64_t row = blockIdx.x;
  float x[kVector];
  Unpack<Half>(Load16(static_cast<const Half*>(args.logits) +
                      row * args.logits_stride + column),
               x);
  if (args.cap > 0) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = args.cap * tanhf(x[i] / args.cap);
  }
  StoreFloats(args.out + row * args.out_stride + column, x);
}

}  // namespace

template <typename Half>
absl::Status WidenLogits(const WidenLogitsArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  const LaunchShape shape =
      ShapeOfRows(args.rows, args.columns, kThreads, args.stream);
  return LaunchKernel("widen logits", &WidenLogitsKernel<Half>, shape, args);
}

template absl::Status WidenLogits<BFloat16>(const WidenLogitsArgs& args);
template absl::Status WidenLogits<Float16>(const WidenLogitsArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
