// Rows by their slots, in tiles: one block, in shared memory.
#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kThreads = 1024;
constexpr int32_t kWarps = kThreads / kWarpLanes;
constexpr int32_t kSlotsOfThread = kMaxRouteSlots / kThreads;

__device__ __forceinline__ int32_t TilesOf(int32_t rows) {
  return (rows + kLoraTileRows - 1) / kLoraTileRows;
}

// kCudaNoSlot, or another negative number, for rows without an adapter.
__device__ __forceinline__ int32_t SlotOf(const RouteArgs& args, int32_t row) {
  const int32_t slot = row < args.rows ? args.row_slots[row] : kCudaNoSlot;
  return slot < args.slots ? slot : kCudaNoSlot;
}

// Of the warp's values up to and with the own one.
__device__ __forceinline__ int32_t WarpPrefixSum(int32_t value, int32_t lane) {
#pragma unroll
  for (int32_t by = 1; by < kWarpLanes; by *= 2) {
    const int32_t below =
        __shfl_up_sync(kAllLanes, value, static_cast<uint32_t>(by));
    if (lane >= by) value += below;
  }
  return value;
}

// A slot belongs to one warp, which goes through all rows in order: so rows of
// a slot stay in order, and no warp waits for another. places[slot] is where
// the slot's next row goes.
__device__ __forceinline__ void PlaceRows(const RouteArgs& args,
                                          SharedPtr<int32_t> places,
                                          int32_t warp, int32_t lane) {
  int32_t next = SlotOf(args, lane);
  for (int32_t begin = 0; begin < args.rows; begin += kWarpLanes) {
    const int32_t slot = next;
    next = SlotOf(args, begin + kWarpLanes + lane);
    const bool own = slot >= 0 && slot % kWarps == warp;
    if (__ballot_sync(kAllLanes, own) == 0) continue;
    const uint32_t same = __match_any_sync(kAllLanes, slot);
    const int32_t before =
        __popc(same & ((uint32_t{1} << static_cast<uint32_t>(lane)) - 1));
    const int32_t place = own ? places[slot] + before : 0;
    __syncwarp();
    if (own) {
      if (before == 0) places[slot] = place + __popc(same);
      args.tiles.rows[place] = begin + lane;
      if (place % kLoraTileRows == 0) {
        args.tiles.slots[place / kLoraTileRows] = slot;
      }
    }
    __syncwarp();
  }
}

__global__ void __launch_bounds__(kThreads) RouteKernel(const RouteArgs args) {
  // Rows of each slot, then PlaceRows' places.
  DESCANT_SHARED(int32_t, places, kMaxRouteSlots);
  DESCANT_SHARED(int32_t, warp_tiles, kWarps);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t warp = thread / kWarpLanes;
  const int32_t lane = thread % kWarpLanes;
  for (int32_t i = thread; i < args.slots; i += kThreads) places[i] = 0;
  __syncthreads();
  for (int32_t row = thread; row < args.rows; row += kThreads) {
    const int32_t slot = SlotOf(args, row);
    if (slot >= 0) atomicAdd(places + slot, 1);
  }
  __syncthreads();

  int32_t counts[kSlotsOfThread];
  int32_t own_tiles = 0;
#pragma unroll
  for (int32_t i = 0; i < kSlotsOfThread; ++i) {
    const int32_t slot = thread * kSlotsOfThread + i;
    counts[i] = slot < args.slots ? int32_t{places[slot]} : 0;
    own_tiles += TilesOf(counts[i]);
  }
  const int32_t up_to_own = WarpPrefixSum(own_tiles, lane);
  if (lane == kWarpLanes - 1) warp_tiles[warp] = up_to_own;
  __syncthreads();
  const int32_t up_to_warp = WarpPrefixSum(warp_tiles[lane], lane);
  const int32_t below =
      __shfl_sync(kAllLanes, up_to_warp, (warp + kWarpLanes - 1) % kWarpLanes);
  const int32_t tiles = __shfl_sync(kAllLanes, up_to_warp, kWarpLanes - 1);

  int32_t tile = (warp == 0 ? 0 : below) + up_to_own - own_tiles;
#pragma unroll
  for (int32_t i = 0; i < kSlotsOfThread; ++i) {
    const int32_t begin = tile * kLoraTileRows;
    places[thread * kSlotsOfThread + i] = begin;
    tile += TilesOf(counts[i]);
    for (int32_t j = begin + counts[i]; j < tile * kLoraTileRows; ++j) {
      args.tiles.rows[j] = -1;
    }
  }
  for (int32_t i = tiles + thread; i < args.tiles.max_tiles; i += kThreads) {
    args.tiles.slots[i] = kCudaNoSlot;
  }
  for (int32_t i = tiles * kLoraTileRows + thread;
       i < args.tiles.max_tiles * kLoraTileRows; i += kThreads) {
    args.tiles.rows[i] = -1;
  }
  __syncthreads();
  PlaceRows(args, places, warp, lane);
}

}  // namespace

absl::Status Route(const RouteArgs& args) {
  if (args.slots > kMaxRouteSlots ||
      args.tiles.max_tiles < MaxLoraTiles(args.rows, args.slots)) {
    return absl::InternalError(absl::StrCat("route: ", args.tiles.max_tiles,
                                            " tiles for ", args.rows,
                                            " rows of ", args.slots, " slots"));
  }
  if (args.tiles.max_tiles == 0) return absl::OkStatus();
  const LaunchShape shape = {
      .grid = {}, .block = {kThreads}, .stream = args.stream};
  return LaunchKernel("route", &RouteKernel, shape, args);
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
