// Attention's two kernels: parts of contexts, and their merge.
#include "runtime/kernels/cuda/attention_kernel.cuh"
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kMergeThreads = 128;

template <typename Half>
__device__ __forceinline__ Half* OutOf(const CudaAttentionArgs& args,
                                       int64_t row, int32_t head) {
  return static_cast<Half*>(args.out) + row * args.out_stride +
         int64_t{head} * args.head_dim;
}

// Merges what the block's warps have of `heads` heads from `head` on, kHeads
// at most, and writes it.
template <typename Half, int kLanes, int kHeads>
__device__ __forceinline__ void WriteHeads(
    const CudaAttentionArgs& args, int64_t row, int32_t head, int32_t heads,
    int32_t split, const AttentionTile<kLanes, kHeads>& tile,
    const AttentionSums<kHeads>& sums) {
  using Tile = AttentionTile<kLanes, kHeads>;
  DESCANT_SHARED(float, values, Tile::kScored* kAttentionWarps* Tile::kColumns);
  DESCANT_SHARED(float, divisors, Tile::kScored* kAttentionWarps);
  DESCANT_SHARED(float, maxima, Tile::kScored* kAttentionWarps);
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpLanes;
#pragma unroll
  for (int begin = 0; begin < kHeads; begin += Tile::kScored) {
#pragma unroll
    for (int h = 0; h < Tile::kScored; ++h) {
      const int32_t at = h * kAttentionWarps + warp;
      if (tile.lane < kLanes) {
        StoreFloats(values + (at * Tile::kColumns + tile.column),
                    sums.values[begin + h]);
      }
      if (tile.lane == 0) {
        divisors[at] = sums.divisors[begin + h];
        maxima[at] = sums.maxima[begin + h];
      }
    }
    __syncthreads();
    const int32_t count = min(heads - begin, Tile::kScored);
    for (int32_t h = 0; h < count; ++h) {
      const int32_t at = h * kAttentionWarps;
      float maximum = -INFINITY;
#pragma unroll
      for (int w = 0; w < kAttentionWarps; ++w) {
        maximum = fmaxf(maximum, maxima[at + w]);
      }
      // A warp without a visible page has zeros, and weight exp(-inf) = 0.
      float weights[kAttentionWarps];
      float divisor = 0;
#pragma unroll
      for (int w = 0; w < kAttentionWarps; ++w) {
        weights[w] = __expf(maxima[at + w] - maximum);
        divisor = fmaf(weights[w], divisors[at + w], divisor);
      }
      Half* const out = OutOf<Half>(args, row, head + begin + h);
      float* const partial =
          args.max_splits == 1
              ? nullptr
              : args.partials +
                    PartialOffset(args, row, head + begin + h, split);
      const auto thread = static_cast<int32_t>(threadIdx.x);
      for (int32_t i = thread; i < args.head_dim; i += kAttentionThreads) {
        float value = 0;
#pragma unroll
        for (int w = 0; w < kAttentionWarps; ++w) {
          value =
              fmaf(weights[w], values[(at + w) * Tile::kColumns + i], value);
        }
        if (partial == nullptr) {
          out[i] = FromFloat<Half>(value / divisor);
        } else {
          partial[i] = value;
        }
      }
      if (partial != nullptr && thread == 0) {
        partial[args.head_dim] = divisor;
        partial[args.head_dim + 1] = maximum;
      }
    }
    __syncthreads();
  }
}

template <typename Half, int kLanes, int kHeads>
__global__ void __launch_bounds__(kAttentionThreads,
                                  AttentionTile<kLanes, kHeads>::kBlocks)
    AttentionKernel(const CudaAttentionArgs args) {
  using Tile = AttentionTile<kLanes, kHeads>;
  DESCANT_SHARED(float, all_scores, kAttentionWarps* kHeads* kCudaKvBlock);
  const int64_t row = blockIdx.x;
  const auto kv_head = static_cast<int32_t>(blockIdx.y);
  const auto split = static_cast<int32_t>(blockIdx.z);
  const int32_t group = args.heads / args.kv_heads;
  const int32_t sequence = args.sequences[row];
  if (sequence == kCudaNoSequence) {
    // Of several parts, the merge does it.
    if (args.max_splits > 1) return;
    Half* const out = OutOf<Half>(args, row, kv_head * group);
    for (int32_t i = static_cast<int32_t>(threadIdx.x);
         i < group * args.head_dim; i += kAttentionThreads) {
      out[i] = FromFloat<Half>(0);
    }
    return;
  }
  PositionRange part = VisibleTo(args, row);
  part.begin = max(part.begin, split * kAttentionSplit);
  part.end = min(part.end, (split + 1) * kAttentionSplit);
  if (part.begin >= part.end) return;

  const Tile tile;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpLanes;
  const SharedPtr<float> scores = all_scores + warp * kHeads * kCudaKvBlock;
  const int32_t* const table =
      args.block_tables + int64_t{sequence} * args.table_stride;
  const int32_t page_size = kCudaKvBlock * args.head_dim;
  for (int32_t begin = 0; begin < group; begin += kHeads) {
    const int32_t head = kv_head * group + begin;
    const int32_t heads = group - begin;  // perhaps more than kHeads
    const Half* const q = static_cast<const Half*>(args.q) +
                          row * args.q_stride + int64_t{head} * args.head_dim;
    AttentionSums<kHeads> sums = {};
#pragma unroll
    for (int h = 0; h < kHeads; ++h) sums.maxima[h] = -INFINITY;
    for (int32_t page = split * (kAttentionSplit / kCudaKvBlock) + warp;
         page * kCudaKvBlock < part.end; page += kAttentionWarps) {
      const PositionRange visible = {part.begin - page * kCudaKvBlock,
                                     part.end - page * kCudaKvBlock};
      if (visible.begin >= kCudaKvBlock) continue;
      const int64_t offset =
          (int64_t{table[page]} * args.kv_heads + kv_head) * page_size;
#pragma unroll 1
      for (int h = 0; h < kHeads; h += Tile::kScored) {
        ScorePage(tile, q + h * args.head_dim, heads - h,
                  static_cast<const Half*>(args.kv.keys) + offset,
                  args.head_dim, visible, scores + h * kCudaKvBlock);
      }
      __syncwarp();
      WeighPage(args, tile.lane, visible, scores, sums);
      __syncwarp();
      AddPage(tile, static_cast<const Half*>(args.kv.values) + offset,
              args.head_dim, visible, scores, sums);
      __syncwarp();
    }
    SumWarp<kLanes>(sums);
    WriteHeads<Half>(args, row, head, heads, split, tile, sums);
  }
}

// out[row] of one head, from its parts in order.
template <typename Half>
__global__ void __launch_bounds__(kMergeThreads)
    MergeKernel(const CudaAttentionArgs args) {
  const int64_t row = blockIdx.x;
  const auto head = static_cast<int32_t>(blockIdx.y);
  Half* const out = OutOf<Half>(args, row, head);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (args.sequences[row] == kCudaNoSequence) {
    for (int32_t i = thread; i < args.head_dim; i += kMergeThreads) {
      out[i] = FromFloat<Half>(0);
    }
    return;
  }
  const PositionRange visible = VisibleTo(args, row);
  const int32_t first = visible.begin / kAttentionSplit;
  const int32_t count = (visible.end - 1) / kAttentionSplit - first + 1;
  const float* const parts =
      args.partials + PartialOffset(args, row, head, first);
  const int64_t stride = args.head_dim + 2;
  const float* const divisors = parts + args.head_dim;
  const float* const maxima = divisors + 1;
  float maximum = -INFINITY;
#pragma unroll 4
  for (int32_t s = 0; s < count; ++s) {
    maximum = fmaxf(maximum, maxima[s * stride]);
  }
  for (int32_t i = thread; i < args.head_dim; i += kMergeThreads) {
    const float weight_of_first = __expf(maxima[0] - maximum);
    float value = weight_of_first * parts[i];
    float divisor = weight_of_first * divisors[0];
#pragma unroll 4
    for (int32_t s = 1; s < count; ++s) {
      const float weight = __expf(maxima[s * stride] - maximum);
      value = fmaf(weight, parts[s * stride + i], value);
      divisor = fmaf(weight, divisors[s * stride], divisor);
    }
    out[i] = FromFloat<Half>(value / divisor);
  }
}

template <typename Half, int kLanes>
absl::Status LaunchParts(const CudaAttentionArgs& args) {
  const LaunchShape shape = {.grid = {static_cast<uint32_t>(args.rows),
                                      static_cast<uint32_t>(args.kv_heads),
                                      static_cast<uint32_t>(args.max_splits)},
                             .block = {kAttentionThreads},
                             .stream = args.stream};
  const auto launch = [&](auto kernel) {
    return LaunchKernel("attention", kernel, shape, args);
  };
  const int32_t group = args.heads / args.kv_heads;
  if (group == 1) return launch(&AttentionKernel<Half, kLanes, 1>);
  if (group == 2) return launch(&AttentionKernel<Half, kLanes, 2>);
  if (group <= 4) return launch(&AttentionKernel<Half, kLanes, 4>);
  return launch(&AttentionKernel<Half, kLanes, 8>);
}

}  // namespace

template <typename Half>
absl::Status Attention(const CudaAttentionArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  const absl::Status parts =
      args.head_dim <= 8 * kVector    ? LaunchParts<Half, 8>(args)
      : args.head_dim <= 16 * kVector ? LaunchParts<Half, 16>(args)
                                      : LaunchParts<Half, 32>(args);
  if (!parts.ok() || args.max_splits == 1) return parts;
  const LaunchShape shape = {.grid = {static_cast<uint32_t>(args.rows),
                                      static_cast<uint32_t>(args.heads)},
                             .block = {kMergeThreads},
                             .stream = args.stream};
  return LaunchKernel("merge of attention", &MergeKernel<Half>, shape, args);
}

template absl::Status Attention<BFloat16>(const CudaAttentionArgs& args);
template absl::Status Attention<Float16>(const CudaAttentionArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
