// Norms and rotates heads, and writes the cache: a warp has one head of a row.
// Lanes have pairs, so a value's only reader is its writer: q is done in place.
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kWarps = 4;
constexpr int32_t kThreads = kWarps * kWarpLanes;
constexpr int32_t kMaxHeadDim = 256;
// What a lane has of a head: pairs, and values that are not rotated.
constexpr int32_t kMaxPairs = kMaxHeadDim / 2 / kWarpLanes;
constexpr int32_t kMaxRest = kMaxHeadDim / kWarpLanes;

// low[j], high[j]: elements i and i + rotary_half, i = lane + 32 j. rest[j]:
// element 2 * rotary_half + lane + 32 j.
struct LaneValues {
  float low[kMaxPairs];
  float high[kMaxPairs];
  float rest[kMaxRest];
};

template <typename Half>
__device__ __forceinline__ LaneValues LoadHead(const RopeArgs& args,
                                               const Half* from, int32_t lane) {
  LaneValues x = {};
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int32_t i = lane + j * kWarpLanes;
    if (i >= args.rotary_half) continue;
    x.low[j] = ToFloat(from[i]);
    x.high[j] = ToFloat(from[i + args.rotary_half]);
  }
#pragma unroll
  for (int j = 0; j < kMaxRest; ++j) {
    const int32_t i = 2 * args.rotary_half + lane + j * kWarpLanes;
    if (i < args.head_dim) x.rest[j] = ToFloat(from[i]);
  }
  return x;
}

__device__ __forceinline__ void NormHead(const RopeArgs& args,
                                         const float* weight, int32_t lane,
                                         LaneValues& x) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    sum += x.low[j] * x.low[j] + x.high[j] * x.high[j];
  }
#pragma unroll
  for (int j = 0; j < kMaxRest; ++j) sum += x.rest[j] * x.rest[j];
  const float mean = WarpSum(sum) / static_cast<float>(args.head_dim);
  const float factor = rsqrtf(mean + args.eps);
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int32_t i = lane + j * kWarpLanes;
    if (i >= args.rotary_half) continue;
    x.low[j] *= factor * weight[i];
    x.high[j] *= factor * weight[i + args.rotary_half];
  }
#pragma unroll
  for (int j = 0; j < kMaxRest; ++j) {
    const int32_t i = 2 * args.rotary_half + lane + j * kWarpLanes;
    if (i < args.head_dim) x.rest[j] *= factor * weight[i];
  }
}

template <typename Half>
__device__ __forceinline__ void StoreRotated(const RopeArgs& args,
                                             const LaneValues& x,
                                             int64_t position, int32_t lane,
                                             Half* to) {
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int32_t i = lane + j * kWarpLanes;
    if (i >= args.rotary_half) continue;
    const float cos = args.cos[position * args.rotary_half + i];
    const float sin = args.sin[position * args.rotary_half + i];
    to[i] = FromFloat<Half>(x.low[j] * cos - x.high[j] * sin);
    to[i + args.rotary_half] =
        FromFloat<Half>(x.high[j] * cos + x.low[j] * sin);
  }
#pragma unroll
  for (int j = 0; j < kMaxRest; ++j) {
    const int32_t i = 2 * args.rotary_half + lane + j * kWarpLanes;
    if (i < args.head_dim) to[i] = FromFloat<Half>(x.rest[j]);
  }
}

// Heads of q, then of k, then of v.
template <typename Half>
__global__ void __launch_bounds__(kThreads) RopeKernel(const RopeArgs args) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  const int32_t head =
      static_cast<int32_t>(blockIdx.y * kWarps + threadIdx.x / kWarpLanes);
  if (head >= args.heads + 2 * args.kv_heads) return;
  const int64_t row = blockIdx.x;
  Half* const from = static_cast<Half*>(args.qkv) + row * args.qkv_stride +
                     int64_t{head} * args.head_dim;
  const bool is_q = head < args.heads;
  const bool is_v = head >= args.heads + args.kv_heads;
  Half* to = from;
  if (!is_q) {
    const int32_t place = args.places[row];
    if (place == kCudaNoPlace) return;
    const int64_t kv_head = (head - args.heads) % args.kv_heads;
    const int64_t block = place / kCudaKvBlock;
    to = static_cast<Half*>(is_v ? args.kv.values : args.kv.keys) +
         ((block * args.kv_heads + kv_head) * kCudaKvBlock +
          place % kCudaKvBlock) *
             args.head_dim;
  }
  if (is_v) {
    const int32_t column = lane * kVector;
    if (column < args.head_dim) Store16(to + column, Load16(from + column));
    return;
  }
  LaneValues x = LoadHead(args, from, lane);
  const float* const weight = is_q ? args.q_norm : args.k_norm;
  if (weight != nullptr) NormHead(args, weight, lane, x);
  StoreRotated(args, x, args.positions[row], lane, to);
}

}  // namespace

template <typename Half>
absl::Status Rope(const RopeArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  const int32_t heads = args.heads + 2 * args.kv_heads;
  const LaunchShape shape = {
      .grid = {static_cast<uint32_t>(args.rows),
               static_cast<uint32_t>((heads + kWarps - 1) / kWarps)},
      .block = {kThreads},
      .stream = args.stream};
  return LaunchKernel("rope", &RopeKernel<Half>, shape, args);
}

template absl::Status Rope<BFloat16>(const RopeArgs& args);
template absl::Status Rope<Float16>(const RopeArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
