// planes[split] = x A^T over the split's depth, for a tile of rows a block.
//
// A's elements are needed once a tile, by one warp: they go straight from
// global memory to the registers that use them, 16 bytes a load, with many
// loads under way. Shared memory would add a trip and two barriers a step.
#include <algorithm>

#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/lora_tile.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kWarps = 4;
constexpr int32_t kThreads = kWarps * kWarpLanes;

// Of a warp at once, where there are few rows.
constexpr int32_t kGemvRanks = 4;
// Of a block at once, where there are many: in tiles of eight.
constexpr int32_t kMmaTiles = 4;
constexpr int32_t kMmaRanks = 8 * kMmaTiles;
// Of a warp at once: two products of 32, so that lines are read whole.
constexpr int32_t kMmaSteps = 2;
constexpr int32_t kMmaDepth = 32 * kMmaSteps;
// Floats; eight more than the ranks, for the banks.
constexpr int32_t kPartialStride = kMmaRanks + 8;
constexpr int32_t kPartialFloats = kWarps * kLoraTileRows * kPartialStride;

// Blocks beyond those of tiles and splits share the ranks: so many in all keep
// a device busy.
constexpr int64_t kEnoughBlocks = 1024;

__device__ __forceinline__ void StoreFour(float* to, const float (&in)[4]) {
  Store16(to, uint4{__float_as_uint(in[0]), __float_as_uint(in[1]),
                    __float_as_uint(in[2]), __float_as_uint(in[3])});
}

// What a block has to do.
template <typename Half>
struct ShrinkWork {
  const Half* x;
  int64_t x_stride;
  const Half* a;
  int32_t in;
  int32_t rank;
  int32_t begin;  // depth
  int32_t end;
  float* planes;  // of the tile's first row
  int32_t plane_stride;
  TileRows rows;

  // The tile's row i, its first one where it has no such row. By whole warps.
  __device__ __forceinline__ const Half* Row(int32_t i) const {
    const int32_t row =
        __shfl_sync(kAllLanes, rows.own, i < rows.count ? i : 0);
    return x + row * x_stride;
  }
};

// At most kRows rows. A warp has kGemvRanks ranks, and its lanes share the
// depth. A row's sums are the same whatever kRows is.
template <typename Half, int32_t kRows>
__device__ __forceinline__ void ShrinkVectors(const ShrinkWork<Half>& work) {
  constexpr int32_t kSteps = kRows <= 2 ? 2 : 1;  // registers
  const auto warp = static_cast<int32_t>(threadIdx.x) / kWarpLanes;
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  const Half* x[kRows];
#pragma unroll
  for (int32_t j = 0; j < kRows; ++j) x[j] = work.Row(j);
  const auto block = static_cast<int32_t>(blockIdx.z);
  const int32_t stride = static_cast<int32_t>(gridDim.z) * kWarps * kGemvRanks;
  for (int32_t first = (block * kWarps + warp) * kGemvRanks; first < work.rank;
       first += stride) {
    const Half* a = work.a + static_cast<int64_t>(first) * work.in;
    float sums[kRows][kGemvRanks] = {};
    for (int32_t begin = work.begin; begin < work.end;
         begin += kSteps * kWarpLanes * kVector) {
      uint4 packed[kSteps][kGemvRanks];
      uint4 packed_x[kSteps][kRows];
#pragma unroll
      for (int32_t step = 0; step < kSteps; ++step) {
        const int32_t k = begin + (step * kWarpLanes + lane) * kVector;
#pragma unroll
        for (int32_t r = 0; r < kGemvRanks; ++r) {
          packed[step][r] =
              Load16If(k < work.end, a + static_cast<int64_t>(r) * work.in + k);
        }
#pragma unroll
        for (int32_t j = 0; j < kRows; ++j) {
          packed_x[step][j] = Load16If(k < work.end, x[j] + k);
        }
      }
#pragma unroll
      for (int32_t step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int32_t r = 0; r < kGemvRanks; ++r) {
          float of_a[kVector];
          Unpack<Half>(packed[step][r], of_a);
#pragma unroll
          for (int32_t j = 0; j < kRows; ++j) {
            float of_x[kVector];
            Unpack<Half>(packed_x[step][j], of_x);
#pragma unroll
            for (int32_t i = 0; i < kVector; ++i) {
              sums[j][r] = fmaf(of_x[i], of_a[i], sums[j][r]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int32_t j = 0; j < kRows; ++j) {
#pragma unroll
      for (int32_t r = 0; r < kGemvRanks; ++r) {
        sums[j][r] = WarpSum(sums[j][r]);
      }
      if (lane == j && j < work.rows.count) {
        StoreFour(
            work.planes + static_cast<int64_t>(j) * work.plane_stride + first,
            sums[j]);
      }
    }
  }
}

// More rows: a warp has a part of the depth for kMmaRanks ranks, and the sums
// of the warps are added in order.
template <typename Half>
__device__ __forceinline__ void ShrinkTile(const ShrinkWork<Half>& work) {
  DESCANT_SHARED(float, partials, kPartialFloats);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t warp = thread / kWarpLanes;
  const int32_t group = thread % kWarpLanes / 4;
  const int32_t quad = thread % 4;
  // Where there is no row, the first one again: loads that are free.
  const Half* low_x = work.Row(group);
  const Half* high_x = work.Row(group + 8);
  for (int32_t first = static_cast<int32_t>(blockIdx.z) * kMmaRanks;
       first < work.rank;
       first += static_cast<int32_t>(gridDim.z) * kMmaRanks) {
    const Half* a = work.a + static_cast<int64_t>(first + group) * work.in;
    float sums[kMmaTiles][4] = {};
    for (int32_t begin = work.begin + warp * kMmaDepth; begin < work.end;
         begin += kWarps * kMmaDepth) {
      uint4 low[kMmaSteps], high[kMmaSteps], b[kMmaSteps][kMmaTiles];
#pragma unroll
      for (int32_t step = 0; step < kMmaSteps; ++step) {
        const int32_t k = begin + step * 32 + quad * kVector;
        const bool is_inside = k < work.end;
        low[step] = Load16If(is_inside, low_x + k);
        high[step] = Load16If(is_inside, high_x + k);
#pragma unroll
        for (int32_t n = 0; n < kMmaTiles; ++n) {
          b[step][n] = Load16If(is_inside && first + 8 * n < work.rank,
                                a + static_cast<int64_t>(8 * n) * work.in + k);
        }
      }
#pragma unroll
      for (int32_t step = 0; step < kMmaSteps; ++step) {
#pragma unroll
        for (int32_t n = 0; n < kMmaTiles; ++n) {
          Multiply32<Half>(sums[n], low[step], high[step], b[step][n]);
        }
      }
    }
    const SharedPtr<float> own =
        partials + (warp * kLoraTileRows + group) * kPartialStride + 2 * quad;
#pragma unroll
    for (int32_t n = 0; n < kMmaTiles; ++n) {
      const SharedPtr<float> at = own + 8 * n;
      SharedCast<float2>(at)[0] = float2{sums[n][0], sums[n][1]};
      SharedCast<float2>(at + 8 * kPartialStride)[0] =
          float2{sums[n][2], sums[n][3]};
    }
    __syncthreads();
    const int32_t row = thread / (kMmaRanks / 4);
    const int32_t rank = thread % (kMmaRanks / 4) * 4;
    if (row < work.rows.count && first + rank < work.rank) {
      float total[4] = {};
#pragma unroll
      for (int32_t i = 0; i < kWarps; ++i) {
        const uint4 packed = Load16(
            partials + (i * kLoraTileRows + row) * kPartialStride + rank);
        total[0] += __uint_as_float(packed.x);
        total[1] += __uint_as_float(packed.y);
        total[2] += __uint_as_float(packed.z);
        total[3] += __uint_as_float(packed.w);
      }
      StoreFour(work.planes + static_cast<int64_t>(row) * work.plane_stride +
                    first + rank,
                total);
    }
    __syncthreads();  // before the next ranks' sums
  }
}
static_assert(kThreads == kLoraTileRows * (kMmaRanks / 4));

template <typename Half>
__global__ void __launch_bounds__(kThreads, 4)
    ShrinkKernel(const ShrinkArgs args, int32_t span) {
  const auto tile = static_cast<int32_t>(blockIdx.x);
  const int32_t slot = args.tiles.slots[tile];
  if (slot < 0) return;
  const auto split = static_cast<int32_t>(blockIdx.y);
  const int64_t plane_row =
      (static_cast<int64_t>(split) * args.tiles.max_tiles + tile) *
      kLoraTileRows;
  const ShrinkWork<Half> work = {
      .x = static_cast<const Half*>(args.x),
      .x_stride = args.x_stride,
      .a = static_cast<const Half*>(args.slots[slot].a),
      .in = args.in,
      .rank = args.slots[slot].rank,
      .begin = split * span,
      .end = min((split + 1) * span, args.in),
      .planes = args.planes + plane_row * args.plane_stride,
      .plane_stride = args.plane_stride,
      .rows = LoadTileRows(args.tiles, tile)};
  if (work.rows.count > kLoraGemvRows) {
    ShrinkTile(work);
  } else if (work.rows.count > 2) {
    ShrinkVectors<Half, kLoraGemvRows>(work);
  } else if (work.rows.count == 2) {
    ShrinkVectors<Half, 2>(work);
  } else {
    ShrinkVectors<Half, 1>(work);
  }
}

}  // namespace

template <typename Half>
absl::Status Shrink(const ShrinkArgs& args) {
  if (args.tiles.max_tiles == 0) return absl::OkStatus();
  const int64_t blocks = int64_t{args.tiles.max_tiles} * args.splits;
  constexpr int32_t kRanks = kWarps * kGemvRanks;
  const int64_t rank_blocks =
      std::min<int64_t>((args.plane_stride + kRanks - 1) / kRanks,
                        (kEnoughBlocks + blocks - 1) / blocks);
  const LaunchShape shape = {
      .grid = {static_cast<uint32_t>(args.tiles.max_tiles),
               static_cast<uint32_t>(args.splits),
               static_cast<uint32_t>(rank_blocks)},
      .block = {kThreads},
      .stream = args.stream};
  return LaunchKernel("shrink", &ShrinkKernel<Half>, shape, args,
                      ShrinkSpan(args.in, args.splits));
}

template absl::Status Shrink<BFloat16>(const ShrinkArgs& args);
template absl::Status Shrink<Float16>(const ShrinkArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
