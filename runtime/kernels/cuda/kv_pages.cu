// Whole pages of the KV cache, 16 bytes a thread: bits, of whatever type.
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kThreads = 128;

uint32_t BlocksOf(int64_t vectors) {
  return static_cast<uint32_t>((vectors + kThreads - 1) / kThreads);
}

__global__ void __launch_bounds__(kThreads)
    GatherKvKernel(const GatherKvArgs args) {
  const int32_t column =
      static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x) * kVector;
  const int32_t row_size = args.kv_heads * args.head_dim;
  if (column >= row_size) return;
  const int32_t position = static_cast<int32_t>(blockIdx.x);
  const int64_t block = args.block_table[position / kCudaKvBlock];
  const int32_t head = column / args.head_dim;
  const int64_t from = ((block * args.kv_heads + head) * kCudaKvBlock +
                        position % kCudaKvBlock) *
                           args.head_dim +
                       column % args.head_dim;
  const int64_t to = int64_t{position} * row_size + column;
  Store16(static_cast<uint16_t*>(args.keys) + to,
          Load16(static_cast<const uint16_t*>(args.kv.keys) + from));
  Store16(static_cast<uint16_t*>(args.values) + to,
          Load16(static_cast<const uint16_t*>(args.kv.values) + from));
}

__global__ void __launch_bounds__(kThreads)
    ClearBlocksKernel(const ClearBlocksArgs args) {
  const int32_t at =
      static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x) * kVector;
  const int32_t size = args.kv_heads * kCudaKvBlock * args.head_dim;
  if (at >= size) return;
  const int64_t to = int64_t{args.blocks[blockIdx.x]} * size + at;
  Store16(static_cast<uint16_t*>(args.kv.keys) + to, uint4{});
  Store16(static_cast<uint16_t*>(args.kv.values) + to, uint4{});
}

}  // namespace

absl::Status GatherKv(const GatherKvArgs& args) {
  if (args.tokens == 0) return absl::OkStatus();
  const LaunchShape shape = {
      .grid = {static_cast<uint32_t>(args.tokens),
               BlocksOf(args.kv_heads * args.head_dim / kVector)},
      .block = {kThreads},
      .stream = args.stream};
  return LaunchKernel("gather_kv", &GatherKvKernel, shape, args);
}

absl::Status ClearBlocks(const ClearBlocksArgs& args) {
  if (args.count == 0) return absl::OkStatus();
  const LaunchShape shape = {.grid = {static_cast<uint32_t>(args.count),
                                      BlocksOf(args.kv_heads * kCudaKvBlock *
                                               args.head_dim / kVector)},
                             .block = {kThreads},
                             .stream = args.stream};
  return LaunchKernel("clear_blocks", &ClearBlocksKernel, shape, args);
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
