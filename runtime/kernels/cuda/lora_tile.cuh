// What shrink and expand know about a tile of rows.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_LORA_TILE_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_LORA_TILE_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/cuda_kernels.h"
#include "runtime/kernels/cuda/floats.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

// A tile's rows, one a lane: -1 from `count` on.
struct TileRows {
  int32_t own = -1;
  int32_t count = 0;
};

// Every warp for itself.
__device__ __forceinline__ TileRows LoadTileRows(const LoraTiles& tiles,
                                                 int32_t tile) {
  const auto lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  TileRows rows;
  if (lane < kLoraTileRows) {
    rows.own = tiles.rows[static_cast<int64_t>(tile) * kLoraTileRows + lane];
  }
  rows.count = __popc(__ballot_sync(kAllLanes, rows.own >= 0));
  return rows;
}

template <typename Half>
__device__ __forceinline__ uint4 Load16If(bool is_there, const Half* from) {
  uint4 value = {0, 0, 0, 0};
  if (is_there) value = Load16(from);
  return value;
}

// sums[16, 8] += a[16, 32] b[8, 32]^T. Lane 4 g + t has eight consecutive k of
// rows g and g + 8 of a, and of row g of b, those from 8 t on: what one 16-byte
// load gets. The two steps of 16 that the instruction takes see the k in
// another order, the same one for a and b, which is all that a sum needs.
template <typename Half>
__device__ __forceinline__ void Multiply32(float (&sums)[4], uint4 low,
                                           uint4 high, uint4 b) {
  const uint32_t a0[4] = {low.x, high.x, low.y, high.y};
  const uint32_t b0[2] = {b.x, b.y};
  Mma16816<Half>(sums, a0, b0);
  const uint32_t a1[4] = {low.z, high.z, low.w, high.w};
  const uint32_t b1[2] = {b.z, b.w};
  Mma16816<Half>(sums, a1, b1);
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_LORA_TILE_CUH_
