// y += weight * half(scale * sum of planes) B^T, for a tile of rows and a chunk
// of a slice's columns a block.
//
// B's elements are needed once a tile: as A's of shrink, they go straight from
// global memory to registers. Sums of products change places in shared memory,
// so that y is read and written 16 bytes at a time.
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/lora_tile.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kWarps = 4;
constexpr int32_t kThreads = kWarps * kWarpLanes;

// Columns of a block. Longer chunks sum the planes less often, shorter ones
// keep more of a device busy: the longest that gives enough blocks.
constexpr int32_t kMinChunk = 128;
constexpr int32_t kMaxChunk = 512;
constexpr int64_t kEnoughBlocks = 1024;

// Halves; 64 bytes more than ranks, for the banks.
constexpr int32_t kHiddenStride = kLoraMaxRank + 32;
constexpr int32_t kHiddenHalves = kLoraTileRows * kHiddenStride;
// Ranks that are zero-filled up to a multiple of this.
constexpr int32_t kHiddenPad = 64;

// Loads of a lane at once, where there are few rows.
constexpr int32_t kGemvLoads = 4;
// Columns of a warp at once, where there are many: in tiles of eight.
constexpr int32_t kMmaTiles = 4;
constexpr int32_t kMmaColumns = 8 * kMmaTiles;
// Floats; eight more than the columns, for the banks.
constexpr int32_t kStageStride = kMmaColumns + 8;
constexpr int32_t kStageFloats = kLoraTileRows * kStageStride;
// Results of either kind of tile.
constexpr int32_t kResultFloats = kWarps * kStageFloats;
static_assert(kResultFloats >= kLoraGemvRows * kMaxChunk);

// What a block has to do.
template <typename Half>
struct ExpandWork {
  const Half* b = nullptr;  // of the chunk's first column
  int32_t rank = 0;
  int32_t rank_begin = 0;
  int32_t columns = 0;  // of the chunk
  Half* y = nullptr;    // row 0, the chunk's first column
  int32_t tile = 0;
  TileRows rows;
};

// h of `rows` rows: half(scale * sum of planes), zero from the tile's last row
// and from the rank on.
template <typename Half>
__device__ __forceinline__ void SumPlanes(const ExpandArgs& args,
                                          const float* scale,
                                          const ExpandWork<Half>& work,
                                          int32_t rows,
                                          SharedPtr<Half> hidden) {
  const int32_t vectors =
      (work.rank + kHiddenPad - 1) / kHiddenPad * (kHiddenPad / kVector);
  const int64_t plane = static_cast<int64_t>(args.tiles.max_tiles) *
                        kLoraTileRows * args.plane_stride;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < rows * vectors;
       i += kThreads) {
    const int32_t row = i / vectors;
    const int32_t r = i % vectors * kVector;
    uint4 packed = {0, 0, 0, 0};
    if (row < work.rows.count && r < work.rank) {
      const int64_t plane_row =
          static_cast<int64_t>(work.tile) * kLoraTileRows + row;
      const float* from =
          args.planes + plane_row * args.plane_stride + work.rank_begin + r;
      float sums[kVector] = {};
#pragma unroll 4
      for (int32_t split = 0; split < args.splits; ++split) {
        float values[kVector];
        LoadFloats(from + split * plane, values);
#pragma unroll
        for (int32_t j = 0; j < kVector; ++j) sums[j] += values[j];
      }
      float scales[kVector];
      LoadFloats(scale + work.rank_begin + r, scales);
#pragma unroll
      for (int32_t j = 0; j < kVector; ++j) sums[j] *= scales[j];
      packed = Pack<Half>(sums);
    }
    Store16(hidden + row * kHiddenStride + r, packed);
  }
}

// Eight columns of a row of y. `old` is what they are.
template <typename Half>
__device__ __forceinline__ void AddToRow(const ExpandArgs& args, int32_t row,
                                         SharedPtr<float> sums, uint4 old,
                                         Half* y) {
  const float weight =
      args.row_weights == nullptr ? 1.0f : args.row_weights[row];
  float values[kVector];
  Unpack<Half>(old, values);
  float added[kVector];
  LoadFloats(sums, added);
#pragma unroll
  for (int32_t i = 0; i < kVector; ++i) {
    values[i] = fmaf(weight, added[i], values[i]);
  }
  Store16(y, Pack<Half>(values));
}

// At most kRows rows. Lanes of a group share the ranks of a column: as many as
// a column has loads, up to eight, so that a warp reads B as it lies. A row's
// sums are the same whatever kRows is.
template <typename Half, int32_t kRows>
__device__ __forceinline__ void ExpandVectors(const ExpandArgs& args,
                                              const float* scale,
                                              const ExpandWork<Half>& work,
                                              SharedPtr<Half> hidden,
                                              SharedPtr<float> results) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t warp = thread / kWarpLanes;
  const int32_t vectors = work.rank / kVector;
  const int32_t shift = vectors > 4 ? 3 : vectors > 2 ? 2 : vectors > 1 ? 1 : 0;
  const int32_t group_lane = thread & ((1 << shift) - 1);
  const int32_t group = thread % kWarpLanes >> shift;
  const int32_t groups = kWarpLanes >> shift;
  const int32_t steps = (vectors + (1 << shift) - 1) >> shift;
  const auto column_of = [&](int32_t batch, int32_t load) {
    return ((batch * kGemvLoads + load) * kWarps + warp) * groups + group;
  };
  const auto load = [&](int32_t batch, int32_t step,
                        uint4(&packed)[kGemvLoads]) {
    const int32_t vector = (step << shift) + group_lane;
#pragma unroll
    for (int32_t i = 0; i < kGemvLoads; ++i) {
      const int32_t column = column_of(batch, i);
      packed[i] = Load16If(
          column < work.columns && vector < vectors,
          work.b + static_cast<int64_t>(column) * work.rank + vector * kVector);
    }
  };
  // B and y do not wait for the planes.
  uint4 next[kGemvLoads];
  load(0, 0, next);
  constexpr int32_t kRowVectors = kMaxChunk / kVector;
  constexpr int32_t kOwn = (kRows * kRowVectors + kThreads - 1) / kThreads;
  const int32_t y_column = thread % kRowVectors * kVector;
  uint4 old[kOwn];
  int32_t y_row[kOwn];
#pragma unroll
  for (int32_t i = 0; i < kOwn; ++i) {
    const int32_t row = (thread + i * kThreads) / kRowVectors;
    y_row[i] = __shfl_sync(kAllLanes, work.rows.own, row);
    if (y_column >= work.columns) y_row[i] = -1;
    old[i] =
        Load16If(y_row[i] >= 0, work.y + y_row[i] * args.y_stride + y_column);
  }
  SumPlanes(args, scale, work, kRows, hidden);
  __syncthreads();

  const int32_t of_batch = kGemvLoads * kWarps * groups;
  const int32_t batches = (work.columns + of_batch - 1) / of_batch;
  float sums[kGemvLoads][kRows] = {};
  for (int32_t batch = 0, step = 0; batch < batches;) {
    float of_b[kGemvLoads][kVector];
#pragma unroll
    for (int32_t i = 0; i < kGemvLoads; ++i) Unpack<Half>(next[i], of_b[i]);
    const SharedPtr<Half> of_step =
        hidden + ((step << shift) + group_lane) * kVector;
    const int32_t this_batch = batch;
    const bool is_last = ++step == steps;
    if (is_last) {
      step = 0;
      ++batch;
    }
    load(batch, step, next);  // behind the last batch: nothing
#pragma unroll
    for (int32_t j = 0; j < kRows; ++j) {
      float of_h[kVector];
      Unpack<Half>(Load16(of_step + j * kHiddenStride), of_h);
#pragma unroll
      for (int32_t i = 0; i < kGemvLoads; ++i) {
#pragma unroll
        for (int32_t k = 0; k < kVector; ++k) {
          sums[i][j] = fmaf(of_h[k], of_b[i][k], sums[i][j]);
        }
      }
    }
    if (!is_last) continue;
#pragma unroll
    for (int32_t i = 0; i < kGemvLoads; ++i) {
      const int32_t column = column_of(this_batch, i);
#pragma unroll
      for (int32_t j = 0; j < kRows; ++j) {
        float sum = sums[i][j];
        sums[i][j] = 0;
        if (shift > 2) sum += __shfl_xor_sync(kAllLanes, sum, 4);
        if (shift > 1) sum += __shfl_xor_sync(kAllLanes, sum, 2);
        if (shift > 0) sum += __shfl_xor_sync(kAllLanes, sum, 1);
        // Perhaps behind the chunk, never behind the longest one.
        if (group_lane == 0) results[j * kMaxChunk + column] = sum;
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int32_t i = 0; i < kOwn; ++i) {
    if (y_row[i] < 0) continue;
    AddToRow(args, y_row[i], results + (thread + i * kThreads) * kVector,
             old[i], work.y + y_row[i] * args.y_stride + y_column);
  }
}

// More rows. The sums of a warp's columns pass through its own part of `stage`.
template <typename Half>
__device__ __forceinline__ void ExpandTile(const ExpandArgs& args,
                                           const float* scale,
                                           const ExpandWork<Half>& work,
                                           SharedPtr<Half> hidden,
                                           SharedPtr<float> stage) {
  constexpr int32_t kRowVectors = kMmaColumns / kVector;
  constexpr int32_t kOwn = kLoraTileRows * kRowVectors / kWarpLanes;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpLanes;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  const int32_t group = lane / 4;
  const int32_t quad = lane % 4;
  int32_t y_row[kOwn];
#pragma unroll
  for (int32_t i = 0; i < kOwn; ++i) {
    y_row[i] = __shfl_sync(kAllLanes, work.rows.own,
                           (lane + i * kWarpLanes) / kRowVectors);
  }
  const int32_t y_column = lane % kRowVectors * kVector;
  SumPlanes(args, scale, work, kLoraTileRows, hidden);
  __syncthreads();

  const SharedPtr<float> own = stage + warp * kStageFloats;
  for (int32_t first = warp * kMmaColumns; first < work.columns;
       first += kWarps * kMmaColumns) {
    uint4 old[kOwn];
#pragma unroll
    for (int32_t i = 0; i < kOwn; ++i) {
      old[i] = Load16If(y_row[i] >= 0 && first + y_column < work.columns,
                        work.y + y_row[i] * args.y_stride + first + y_column);
    }
    float sums[kMmaTiles][4] = {};
    for (int32_t begin_k = 0; begin_k < work.rank; begin_k += 32) {
      const int32_t k = begin_k + quad * kVector;
      const uint4 low = Load16(hidden + group * kHiddenStride + k);
      const uint4 high = Load16(hidden + (group + 8) * kHiddenStride + k);
      uint4 b[kMmaTiles];
#pragma unroll
      for (int32_t n = 0; n < kMmaTiles; ++n) {
        const int32_t column = first + 8 * n + group;
        b[n] = Load16If(column < work.columns && k < work.rank,
                        work.b + static_cast<int64_t>(column) * work.rank + k);
      }
#pragma unroll
      for (int32_t n = 0; n < kMmaTiles; ++n) {
        Multiply32<Half>(sums[n], low, high, b[n]);
      }
    }
    const SharedPtr<float> at = own + group * kStageStride + 2 * quad;
#pragma unroll
    for (int32_t n = 0; n < kMmaTiles; ++n) {
      SharedCast<float2>(at + 8 * n)[0] = float2{sums[n][0], sums[n][1]};
      SharedCast<float2>(at + 8 * kStageStride + 8 * n)[0] =
          float2{sums[n][2], sums[n][3]};
    }
    __syncwarp();
#pragma unroll
    for (int32_t i = 0; i < kOwn; ++i) {
      if (y_row[i] < 0 || first + y_column >= work.columns) continue;
      AddToRow(
          args, y_row[i],
          own + (lane + i * kWarpLanes) / kRowVectors * kStageStride + y_column,
          old[i], work.y + y_row[i] * args.y_stride + first + y_column);
    }
    __syncwarp();  // before the next columns' sums
  }
}

template <typename Half>
__global__ void __launch_bounds__(kThreads, 4)
    ExpandKernel(const ExpandArgs args, int32_t chunk_columns) {
  DESCANT_SHARED(Half, hidden, kHiddenHalves);
  DESCANT_SHARED(float, results, kResultFloats);
  ExpandWork<Half> work;
  work.tile = static_cast<int32_t>(blockIdx.x);
  const int32_t slot_index = args.tiles.slots[work.tile];
  if (slot_index < 0) return;
  // Chunks of one slice after those of the other; the grid has as many as the
  // slices that there are.
  auto chunk = static_cast<int32_t>(blockIdx.y);
  int32_t slice_index = 0;
  int32_t begin = 0;  // column of the slice
  int32_t slice_begin = 0;
#pragma unroll
  for (int32_t i = 0; i < kLoraMaxSlices; ++i) {
    const int32_t columns = args.slice_columns[i];
    if (chunk >= 0 && chunk * chunk_columns < columns) {
      slice_index = i;
      begin = chunk * chunk_columns;
      slice_begin = args.slice_begin[i];
      work.columns = min(chunk_columns, columns - begin);
    }
    chunk -= (columns + chunk_columns - 1) / chunk_columns;
  }
  const LoraSlot& slot = args.slots[slot_index];
  const LoraSlice& slice = slot.slices[slice_index];
  work.rank = slice.rank;
  if (work.rank == 0) return;
  work.rank_begin = slice.rank_begin;
  work.b = static_cast<const Half*>(slice.b) +
           static_cast<int64_t>(begin) * work.rank;
  work.y = static_cast<Half*>(args.y) + slice_begin + begin;
  work.rows = LoadTileRows(args.tiles, work.tile);
  const float* scale = slot.scale;
  if (work.rows.count > kLoraGemvRows) {
    ExpandTile(args, scale, work, hidden, results);
  } else if (work.rows.count > 2) {
    ExpandVectors<Half, kLoraGemvRows>(args, scale, work, hidden, results);
  } else if (work.rows.count == 2) {
    ExpandVectors<Half, 2>(args, scale, work, hidden, results);
  } else {
    ExpandVectors<Half, 1>(args, scale, work, hidden, results);
  }
}

int64_t ChunksOf(const ExpandArgs& args, int32_t chunk_columns) {
  int64_t chunks = 0;
  for (int32_t i = 0; i < args.slices; ++i) {
    chunks += (args.slice_columns[i] + chunk_columns - 1) / chunk_columns;
  }
  return chunks;
}

}  // namespace

template <typename Half>
absl::Status Expand(const ExpandArgs& args) {
  int32_t chunk_columns = kMaxChunk;
  while (chunk_columns > kMinChunk &&
         args.tiles.max_tiles * ChunksOf(args, chunk_columns) < kEnoughBlocks) {
    chunk_columns /= 2;
  }
  const LaunchShape shape = {
      .grid = {static_cast<uint32_t>(args.tiles.max_tiles),
               static_cast<uint32_t>(ChunksOf(args, chunk_columns))},
      .block = {kThreads},
      .stream = args.stream};
  if (shape.grid.x == 0 || shape.grid.y == 0) return absl::OkStatus();
  return LaunchKernel("expand", &ExpandKernel<Half>, shape, args,
                      chunk_columns);
}

template absl::Status Expand<BFloat16>(const ExpandArgs& args);
template absl::Status Expand<Float16>(const ExpandArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
