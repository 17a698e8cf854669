// The residual's sum and its norm: one block a row, whose values stay in
// registers between the passes. How many threads there are, and which columns
// each has, follows from the width, so a row's sums are made in one order.
#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/floats.cuh"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/vectors.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kMaxThreads = 512;
constexpr int32_t kMaxWarps = kMaxThreads / kWarpLanes;
constexpr int32_t kMaxVectors = kMaxNormWidth / (kMaxThreads * kVector);
static_assert(kMaxVectors == 4);

// Columns of vector `i` of this thread start here.
__device__ __forceinline__ int32_t ColumnOf(int i) {
  return static_cast<int32_t>(i * blockDim.x + threadIdx.x) * kVector;
}

// Of the block's values; `warps` ([kMaxWarps]) is used once in a launch.
__device__ __forceinline__ float BlockSum(float value, SharedPtr<float> warps) {
  value = WarpSum(value);
  const int32_t count = static_cast<int32_t>(blockDim.x) / kWarpLanes;
  if (count == 1) return value;
  if (threadIdx.x % kWarpLanes == 0) warps[threadIdx.x / kWarpLanes] = value;
  __syncthreads();
  float sum = 0;
  for (int32_t i = 0; i < count; ++i) sum += warps[i];
  return sum;
}

// x += delta, or delta's norm, in registers and in memory.
template <typename Half, int kVectors>
__device__ __forceinline__ void AddDelta(const NormArgs& args, int64_t source,
                                         SharedPtr<float> warps,
                                         float (&x)[kVectors][kVector]) {
  const Half* const delta =
      static_cast<const Half*>(args.delta) + source * args.delta_stride;
  uint4 packed[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    packed[i] = uint4{};
    if (ColumnOf(i) < args.width) packed[i] = Load16(delta + ColumnOf(i));
  }
  float factor = 1;
  if (args.post_weight != nullptr) {  // of the whole row
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      float values[kVector];
      Unpack<Half>(packed[i], values);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum += values[j] * values[j];
    }
    const float mean = BlockSum(sum, warps) / static_cast<float>(args.width);
    factor = rsqrtf(mean + args.eps);
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int32_t column = ColumnOf(i);
    if (column >= args.width) continue;
    float values[kVector];
    Unpack<Half>(packed[i], values);
    if (args.post_weight != nullptr) {
      float weight[kVector];
      LoadFloats(args.post_weight + column, weight);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= factor * weight[j];
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) x[i][j] += values[j];
    StoreFloats(args.x + source * args.x_stride + column, x[i]);
  }
}

template <int kVectors>
__device__ __forceinline__ float Sum(const float (&x)[kVectors][kVector]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += x[i][j];
  }
  return sum;
}

template <typename Half, int kVectors>
__global__ void __launch_bounds__(kMaxThreads) NormKernel(const NormArgs args) {
  DESCANT_SHARED(float, warps, 3 * kMaxWarps);
  const int64_t row = blockIdx.x;
  const int64_t source =
      args.source_rows != nullptr ? args.source_rows[row] : row;
  Half* const out = static_cast<Half*>(args.out) + row * args.out_stride;
  float x[kVectors][kVector] = {};
  if (source >= 0) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (ColumnOf(i) >= args.width) continue;
      LoadFloats(args.x + source * args.x_stride + ColumnOf(i), x[i]);
    }
    if (args.delta != nullptr) AddDelta<Half>(args, source, warps, x);
  }
  const auto width = static_cast<float>(args.width);
  const bool centred = args.bias != nullptr;
  const float mean =
      centred ? BlockSum(Sum(x), warps + kMaxWarps) / width : 0.0f;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (ColumnOf(i) >= args.width) continue;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      x[i][j] -= mean;
      sum += x[i][j] * x[i][j];
    }
  }
  const float factor =
      rsqrtf(BlockSum(sum, warps + 2 * kMaxWarps) / width + args.eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int32_t column = ColumnOf(i);
    if (column >= args.width) continue;
    float weight[kVector];
    LoadFloats(args.weight + column, weight);
    float bias[kVector] = {};
    if (centred) LoadFloats(args.bias + column, bias);
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      x[i][j] = source >= 0 ? x[i][j] * factor * weight[j] + bias[j] : 0.0f;
    }
    Store16(out + column, Pack<Half>(x[i]));
  }
}

}  // namespace

template <typename Half>
absl::Status Norm(const NormArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  if (args.width > kMaxNormWidth) {
    return absl::InternalError(absl::StrCat("norm: a width of ", args.width));
  }
  const int32_t vectors = args.width / kVector;
  const int32_t warps = (vectors + kWarpLanes - 1) / kWarpLanes;
  const int32_t threads = (warps < kMaxWarps ? warps : kMaxWarps) * kWarpLanes;
  const LaunchShape shape = {.grid = {static_cast<uint32_t>(args.rows)},
                             .block = {static_cast<uint32_t>(threads)},
                             .stream = args.stream};
  const auto launch = [&](auto kernel) {
    return LaunchKernel("norm", kernel, shape, args);
  };
  if (vectors <= threads) return launch(&NormKernel<Half, 1>);
  if (vectors <= 2 * threads) return launch(&NormKernel<Half, 2>);
  return launch(&NormKernel<Half, kMaxVectors>);
}

template absl::Status Norm<BFloat16>(const NormArgs& args);
template absl::Status Norm<Float16>(const NormArgs& args);

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
