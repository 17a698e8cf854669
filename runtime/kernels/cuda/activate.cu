// The MLP's activation, eight columns a thread.
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kThreads = 128;

template <CudaActivation activation>
__device__ __forceinline__ float Apply(float x) {
  if constexpr (activation == CudaActivation::kSilu) {
    return x / (1.0f + __expf(-x));
  } else {
    const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(inner));
  }
}

template <typename Half, CudaActivation activation>
__global__ void __launch_bounds__(kThreads)
    ActivateKernel(const Half* gate_up, int64_t stride, int32_t width,
                   bool gated, Half* out, int64_t out_stride) {
  const int32_t column =
      static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x) * kVector;
  if (column >= width) return;
  const Half* row = gate_up + static_cast<int64_t>(blockIdx.x) * stride;
  float x[kVector];
  Unpack<Half>(Load16(row + column), x);
  float up[kVector];
  if (gated) Unpack<Half>(Load16(row + width + column), up);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = Apply<activation>(x[i]);
    if (gated) x[i] *= up[i];
  }
  Store16(out + static_cast<int64_t>(blockIdx.x) * out_stride + column,
          Pack<Half>(x));
}

}  // namespace

template <typename Half>
absl::Status Activate(const ActivateArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  const LaunchShape shape =
      ShapeOfRows(args.rows, args.width, kThreads, args.stream);
  const auto launch = [&](auto kernel) {
    return LaunchKernel("activate", kernel, shape,
                        static_cast<const Half*>(args.gate_up),
                        args.gate_up_stride, args.width, args.gated,
                        static_cast<Half*>(args.out), args.out_stride);
  };
  return args.activation == CudaActivation::kSilu
             ? launch(&ActivateKernel<Half, CudaActivation::kSilu>)
             : launch(&ActivateKernel<Half, CudaActivation::kGeluTanh>);
}

template absl::Status Activate<BFloat16>(const ActivateArgs& args);
template absl::Status Activate<Float16>(const ActivateArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
