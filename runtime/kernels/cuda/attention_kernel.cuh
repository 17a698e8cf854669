// Attention over a paged cache, by parts of the context (flash decoding).
//
// A block has one row, one kv head with all its query heads, and one part of
// kAttentionSplit positions. Its warps take the part's pages in turn; keys and
// values are read from memory once, for all heads. A page is done in three
// steps: scores of its positions into shared memory (lanes have columns), their
// online softmax (lanes have positions, so every exponential is taken once),
// the values' weighted sum (lanes have columns again).
//
// A row's bits depend on what the row sees and on nothing else: pages belong to
// parts and warps by their number in the sequence, sums are made in the order
// of lanes, warps and parts. The first part's sum starts the merge with a
// weight, and a single part has weight exp(0) = 1: merging one part changes no
// bit, so max_splits has no influence, nor have other rows or their number.
//
// Positions that the row does not see are not read: garbage there, NaNs
// included, is not multiplied by a weight of zero.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_ATTENTION_KERNEL_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_ATTENTION_KERNEL_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

inline constexpr int32_t kAttentionWarps = 4;
inline constexpr int32_t kAttentionThreads = kAttentionWarps * kWarpLanes;
static_assert(kCudaKvBlock == kWarpLanes, "a lane has a position of a page");
static_assert(kAttentionSplit % (kAttentionWarps * kCudaKvBlock) == 0);

// Positions, or those of a page.
struct PositionRange {
  int32_t begin;
  int32_t end;
};

__device__ __forceinline__ PositionRange
VisibleTo(const CudaAttentionArgs& args, int64_t row) {
  const int32_t end = args.positions[row] + 1;
  return {args.window > 0 ? max(end - args.window, 0) : 0, end};
}

__device__ __forceinline__ int64_t PartialOffset(const CudaAttentionArgs& args,
                                                 int64_t row, int32_t head,
                                                 int32_t split) {
  return ((row * args.heads + head) * args.max_splits + split) *
         (args.head_dim + 2);
}

// kLanes lanes have the columns of a position, eight each; there are 32 /
// kLanes such groups in a warp, and each has consecutive positions of a page.
// kHeads query heads are done at once, the scores of kScored of them.
template <int kLanes, int kHeads>
struct AttentionTile {
  static constexpr int32_t kPositions = kCudaKvBlock * kLanes / kWarpLanes;
  static constexpr int32_t kColumns = kLanes * kVector;
  static constexpr int32_t kScored = kHeads < 4 ? kHeads : 4;
  // 16-byte loads that a lane has on their way, and blocks that share a
  // multiprocessor's registers: at least 32 KiB are on their way to it, which
  // hides a latency of 1 us at H100's 3.35 TB/s over 132 of them.
  static constexpr int32_t kLoads = 8;
  static constexpr int32_t kBlocks = kHeads > 4 ? 2 : kHeads > 2 ? 3 : 4;

  int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  int32_t column = lane % kLanes * kVector;
  int32_t first = lane / kLanes * kPositions;  // position of the page

  // Positions first + i and following of a page, of this lane's columns; zeros
  // for those that are not in `visible`.
  template <typename Half>
  __device__ __forceinline__ void Load(const Half* page, int32_t head_dim,
                                       PositionRange visible, int32_t i,
                                       uint4 (&rows)[kLoads]) const {
#pragma unroll
    for (int u = 0; u < kLoads; ++u) {
      const int32_t position = first + i + u;
      rows[u] = uint4{};
      if (column < head_dim && position >= visible.begin &&
          position < visible.end) {
        rows[u] = Load16(page + position * head_dim + column);
      }
    }
  }
};

// Sums of kCount values over groups of kLanes lanes. Each lane gets one of
// them: value number lane % kLanes / (kLanes / kCount).
template <int kCount, int kLanes>
__device__ __forceinline__ float SumScattered(const float (&values)[kCount],
                                              int32_t lane) {
  if constexpr (kLanes == 1) {
    return values[0];
  } else if constexpr (kCount == 1) {
    const float sum[1] = {values[0] +
                          __shfl_xor_sync(kAllLanes, values[0], kLanes / 2)};
    return SumScattered<1, kLanes / 2>(sum, lane);
  } else {
    // Half of the lanes go on with half of the values.
    const bool upper = (lane & (kLanes / 2)) != 0;
    float sums[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float kept = upper ? values[kCount / 2 + i] : values[i];
      const float sent = upper ? values[i] : values[kCount / 2 + i];
      sums[i] = kept + __shfl_xor_sync(kAllLanes, sent, kLanes / 2);
    }
    return SumScattered<kCount / 2, kLanes / 2>(sums, lane);
  }
}

// scores[h][position] of heads [0, kScored) of q, of which `heads` are there.
template <typename Half, int kLanes, int kHeads>
__device__ __forceinline__ void ScorePage(
    const AttentionTile<kLanes, kHeads>& tile, const Half* q, int32_t heads,
    const Half* keys, int32_t head_dim, PositionRange visible,
    SharedPtr<float> scores) {
  using Tile = AttentionTile<kLanes, kHeads>;
  float query[Tile::kScored][kVector];
#pragma unroll
  for (int h = 0; h < Tile::kScored; ++h) {
    uint4 packed = {};
    if (h < heads && tile.column < head_dim) {
      packed = Load16(q + h * head_dim + tile.column);
    }
    Unpack<Half>(packed, query[h]);
  }
#pragma unroll 1
  for (int32_t i = 0; i < Tile::kPositions; i += Tile::kLoads) {
    uint4 rows[Tile::kLoads];
    tile.Load(keys, head_dim, visible, i, rows);
#pragma unroll
    for (int u = 0; u < Tile::kLoads; ++u) {
      float key[kVector];
      Unpack<Half>(rows[u], key);
      float sums[Tile::kScored] = {};
#pragma unroll
      for (int h = 0; h < Tile::kScored; ++h) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          sums[h] = fmaf(query[h][j], key[j], sums[h]);
        }
      }
      const float sum = SumScattered<Tile::kScored, kLanes>(sums, tile.lane);
      constexpr int32_t kLanesOfHead = kLanes / Tile::kScored;
      if (tile.lane % kLanesOfHead == 0) {
        scores[tile.lane % kLanes / kLanesOfHead * kCudaKvBlock + tile.first +
               i + u] = sum;
      }
    }
  }
}

// What a warp has of the heads so far.
template <int kHeads>
struct AttentionSums {
  float values[kHeads][kVector];  // this lane's positions and columns
  float divisors[kHeads];         // this lane's positions
  float maxima[kHeads];           // the same in all lanes
};

// Scores of a page to weights, of the lane's own position; older sums follow
// the maximum.
template <int kHeads>
__device__ __forceinline__ void WeighPage(const CudaAttentionArgs& args,
                                          int32_t lane, PositionRange visible,
                                          SharedPtr<float> scores,
                                          AttentionSums<kHeads>& sums) {
  const bool seen = lane >= visible.begin && lane < visible.end;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float score = scores[h * kCudaKvBlock + lane];
    score *= args.scale;
    if (args.cap > 0) score = args.cap * tanhf(score / args.cap);
    if (!seen) score = -INFINITY;
    const float maximum = fmaxf(sums.maxima[h], WarpMax(score));
    const float weight = __expf(score - maximum);
    const float rescale = __expf(sums.maxima[h] - maximum);
    scores[h * kCudaKvBlock + lane] = weight;
    sums.divisors[h] = sums.divisors[h] * rescale + weight;
#pragma unroll
    for (int j = 0; j < kVector; ++j) sums.values[h][j] *= rescale;
    sums.maxima[h] = maximum;
  }
}

template <typename Half, int kLanes, int kHeads>
__device__ __forceinline__ void AddPage(
    const AttentionTile<kLanes, kHeads>& tile, const Half* values,
    int32_t head_dim, PositionRange visible, SharedPtr<float> weights,
    AttentionSums<kHeads>& sums) {
  using Tile = AttentionTile<kLanes, kHeads>;
  constexpr int kWeights = 4;  // in 16 bytes
#pragma unroll 1
  for (int32_t i = 0; i < Tile::kPositions; i += Tile::kLoads) {
    uint4 rows[Tile::kLoads];
    tile.Load(values, head_dim, visible, i, rows);
#pragma unroll
    for (int u = 0; u < Tile::kLoads; u += kWeights) {
      float value[kWeights][kVector];
#pragma unroll
      for (int v = 0; v < kWeights; ++v) Unpack<Half>(rows[u + v], value[v]);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const uint4 packed =
            Load16(weights + (h * kCudaKvBlock + tile.first + i + u));
        const uint32_t weight[kWeights] = {packed.x, packed.y, packed.z,
                                           packed.w};
#pragma unroll
        for (int v = 0; v < kWeights; ++v) {
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            sums.values[h][j] = fmaf(__uint_as_float(weight[v]), value[v][j],
                                     sums.values[h][j]);
          }
        }
      }
    }
  }
}

// Sums of a warp's groups: the values of a column, the divisors.
template <int kLanes, int kHeads>
__device__ __forceinline__ void SumWarp(AttentionSums<kHeads>& sums) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    sums.divisors[h] = WarpSum(sums.divisors[h]);
#pragma unroll
    for (int lanes = kLanes; lanes < kWarpLanes; lanes *= 2) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        sums.values[h][j] +=
            __shfl_xor_sync(kAllLanes, sums.values[h][j], lanes);
      }
    }
  }
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_ATTENTION_KERNEL_CUH_
