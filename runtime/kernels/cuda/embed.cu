// Rows of the embedding table, eight columns a thread.
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kThreads = 128;

template <typename Half>
__global__ void __launch_bounds__(kThreads) EmbedKernel(const EmbedArgs args) {
  const int32_t column =
      static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x) * kVector;
  if (column >= args.width) return;
  const int64_t row = blockIdx.x;
  int32_t token = args.tokens[row];
  if (token < 0) token = args.last_tokens[-1 - token];
  float x[kVector];
  Unpack<Half>(Load16(static_cast<const Half*>(args.embedding) +
                      int64_t{token} * args.width + column),
               x);
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] *= args.scale;
  if (args.position_embedding != nullptr) {
    float of_position[kVector];
    Unpack<Half>(Load16(static_cast<const Half*>(args.position_embedding) +
                        int64_t{args.positions[row]} * args.width + column),
                 of_position);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] += of_position[i];
  }
  StoreFloats(args.x + row * args.x_stride + column, x);
}

}  // namespace

template <typename Half>
absl::Status Embed(const EmbedArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  const LaunchShape shape =
      ShapeOfRows(args.rows, args.width, kThreads, args.stream);
  return LaunchKernel("embed", &EmbedKernel<Half>, shape, args);
}

template absl::Status Embed<BFloat16>(const EmbedArgs& args);
template absl::Status Embed<Float16>(const EmbedArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
