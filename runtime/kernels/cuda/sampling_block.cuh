// What a block of threads does with a row of logits: sums, and the places where
// running sums pass a target, by key (radix selection) or in order of token.
// All functions are called by all threads of the block, with the same values.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_BLOCK_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_BLOCK_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/cuda_sampling.h"
#include "runtime/kernels/cuda/floats.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

inline constexpr int32_t kSampleThreads = 512;
inline constexpr int32_t kSampleWarps = kSampleThreads / kWarpLanes;
// Logits that a thread reads at once.
inline constexpr int32_t kQuad = 4;
// Of a digit of a key; also chunks of the vocabulary, of a warp's quads each.
inline constexpr int32_t kDigitBits = 11;
inline constexpr int32_t kBins = 1 << kDigitBits;
inline constexpr int32_t kChunk = kWarpLanes * kQuad;
static_assert(kBins == kQuad * kSampleThreads);
static_assert(kChunk * kBins == kMaxSampleVocab);

// Shared memory. Who writes to one of the arrays comes after a barrier that
// follows the last read of it.
struct SampleShared {
  // [kBins]: sums of 64 bits in two halves, as hardware adds 32 at once.
  SharedPtr<uint32_t> low;
  SharedPtr<uint32_t> high;
  SharedPtr<uint64_t> warps;  // [kSampleWarps]
  SharedPtr<uint64_t> found;  // [3]
};

struct LogitRow {
  const float* values = nullptr;  // at a multiple of 16 bytes
  int32_t vocab = 0;
};

// visit(token, value), in no order. Two quads are on their way at once.
template <typename Visit>
__device__ __forceinline__ void ForTokens(const LogitRow& row,
                                          const Visit& visit) {
  const auto visit_quad = [&](int32_t quad, const uint4& bits) {
    visit(kQuad * quad, __uint_as_float(bits.x));
    visit(kQuad * quad + 1, __uint_as_float(bits.y));
    visit(kQuad * quad + 2, __uint_as_float(bits.z));
    visit(kQuad * quad + 3, __uint_as_float(bits.w));
  };
  const int32_t quads = row.vocab / kQuad;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t quad = thread; quad < quads; quad += 2 * kSampleThreads) {
    const int32_t next = quad + kSampleThreads;
    const uint4 bits = Load16(row.values + kQuad * quad);
    uint4 next_bits = {};
    if (next < quads) next_bits = Load16(row.values + kQuad * next);
    visit_quad(quad, bits);
    if (next < quads) visit_quad(next, next_bits);
  }
  const int32_t token = kQuad * quads + thread;
  if (token < row.vocab) visit(token, row.values[token]);
}

// Of all threads' values.
template <typename Combine>
__device__ __forceinline__ uint64_t Reduce(const SampleShared& shared,
                                           uint64_t value,
                                           const Combine& combine) {
#pragma unroll
  for (int by = kWarpLanes / 2; by > 0; by /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, by));
  }
  if (threadIdx.x % kWarpLanes == 0) {
    shared.warps[threadIdx.x / kWarpLanes] = value;
  }
  __syncthreads();
  value = shared.warps[0];
#pragma unroll
  for (int i = 1; i < kSampleWarps; ++i) {
    const uint64_t other = shared.warps[i];
    value = combine(value, other);
  }
  __syncthreads();
  return value;
}
__device__ __forceinline__ uint64_t ReduceMin(const SampleShared& shared,
                                              uint64_t value) {
  return Reduce(shared, value,
                [](uint64_t a, uint64_t b) { return min(a, b); });
}
__device__ __forceinline__ uint64_t ReduceSum(const SampleShared& shared,
                                              uint64_t value) {
  return Reduce(shared, value, [](uint64_t a, uint64_t b) { return a + b; });
}

__device__ __forceinline__ uint64_t Wide(uint32_t high, uint32_t low) {
  return static_cast<uint64_t>(high) << 32 | low;
}

__device__ __forceinline__ void ClearBins(const SampleShared& shared) {
  Store16(shared.low + kQuad * threadIdx.x, uint4{});
  Store16(shared.high + kQuad * threadIdx.x, uint4{});
}

// In any order of threads the sum is the same: as many carries as the low half
// went round.
__device__ __forceinline__ void AddToBin(const SampleShared& shared,
                                         uint32_t bin, uint64_t amount) {
  const auto low = static_cast<uint32_t>(amount);
  auto high = static_cast<uint32_t>(amount >> 32);
  const uint32_t old = atomicAdd(shared.low + bin, low);
  if (old + low < old) ++high;
  if (high != 0) atomicAdd(shared.high + bin, high);
}

// The first bin at which the sum of bins passes target_of(total sum).
struct Bin {
  uint32_t index;
  uint64_t rest;    // target - sum of the bins before
  uint64_t amount;  // of this bin, above `rest`
};

// A barrier after the last write to the bins is the caller's. REQUIRES: the
// target is below the total.
template <typename TargetOf>
__device__ __forceinline__ Bin FindBin(const SampleShared& shared,
                                       const TargetOf& target_of) {
  const uint32_t thread = threadIdx.x;
  const uint4 low = Load16(shared.low + kQuad * thread);
  const uint4 high = Load16(shared.high + kQuad * thread);
  const uint64_t amounts[kQuad] = {Wide(high.x, low.x), Wide(high.y, low.y),
                                   Wide(high.z, low.z), Wide(high.w, low.w)};
  const uint64_t own = amounts[0] + amounts[1] + amounts[2] + amounts[3];
  uint64_t upto = own;
#pragma unroll
  for (uint32_t by = 1; by < kWarpLanes; by *= 2) {
    const uint64_t lower = __shfl_up_sync(kAllLanes, upto, by);
    if (thread % kWarpLanes >= by) upto += lower;
  }
  if (thread % kWarpLanes == kWarpLanes - 1) {
    shared.warps[thread / kWarpLanes] = upto;
  }
  __syncthreads();
  uint64_t before = upto - own;
  uint64_t total = 0;
#pragma unroll
  for (uint32_t i = 0; i < kSampleWarps; ++i) {
    const uint64_t warp = shared.warps[i];
    if (i < thread / kWarpLanes) before += warp;
    total += warp;
  }
  const uint64_t target = target_of(total);
  // Wraps around for a target before these bins, and behind the bin it falls
  // in: then it is more than any amount.
  uint64_t rest = target - before;
#pragma unroll
  for (uint32_t i = 0; i < kQuad; ++i) {
    if (rest < amounts[i]) {
      shared.found[0] = kQuad * thread + i;
      shared.found[1] = rest;
      shared.found[2] = amounts[i];
    }
    rest -= amounts[i];
  }
  __syncthreads();
  const uint64_t index = shared.found[0];
  return {static_cast<uint32_t>(index), shared.found[1], shared.found[2]};
}

// The key at which the sum of amounts, in ascending order of keys, passes
// target_of(total): three digits, the upper one first.
struct FoundKey {
  uint32_t key;
  uint64_t rest;    // target - sum of the keys before
  uint64_t amount;  // of all tokens with this key
};

// key_of(token, value), amount_of(token, value).
template <typename KeyOfToken, typename AmountOf, typename TargetOf>
__device__ __forceinline__ FoundKey FindKey(const SampleShared& shared,
                                            const LogitRow& row,
                                            const KeyOfToken& key_of,
                                            const AmountOf& amount_of,
                                            const TargetOf& target_of) {
  FoundKey result = {};
  int32_t shift = 32;
#pragma unroll 1
  while (shift > 0) {
    const int32_t upper = shift;
    shift = max(shift - kDigitBits, 0);
    const uint32_t digit_mask = (1u << (upper - shift)) - 1;
    ClearBins(shared);
    __syncthreads();
    ForTokens(row, [&](int32_t token, float value) {
      const uint32_t key = key_of(token, value);
      if (static_cast<uint64_t>(key) >> upper != result.key) return;
      const uint64_t amount = amount_of(token, value);
      if (amount != 0) AddToBin(shared, key >> shift & digit_mask, amount);
    });
    __syncthreads();
    const Bin bin = FindBin(shared, [&](uint64_t total) {
      return upper == 32 ? target_of(total) : result.rest;
    });
    result = {result.key << (upper - shift) | bin.index, bin.rest, bin.amount};
  }
  return result;
}

// The token at which the sum of amounts, in order of token, passes
// target_of(total).
template <typename AmountOf, typename TargetOf>
__device__ __forceinline__ int32_t FindInOrder(const SampleShared& shared,
                                               const LogitRow& row,
                                               const AmountOf& amount_of,
                                               const TargetOf& target_of) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpLanes;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpLanes;
  // Of this lane's quad of a chunk.
  const auto amounts_of = [&](int32_t chunk, uint64_t(&amounts)[kQuad]) {
    const int32_t token = chunk * kChunk + kQuad * lane;
    uint4 bits = {};
    if (token + kQuad <= row.vocab) {
      bits = Load16(row.values + token);
    } else {
      if (token < row.vocab) bits.x = __float_as_uint(row.values[token]);
      if (token + 1 < row.vocab) {
        bits.y = __float_as_uint(row.values[token + 1]);
      }
      if (token + 2 < row.vocab) {
        bits.z = __float_as_uint(row.values[token + 2]);
      }
    }
    const uint32_t words[kQuad] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int32_t i = 0; i < kQuad; ++i) {
      amounts[i] = token + i < row.vocab
                       ? amount_of(token + i, __uint_as_float(words[i]))
                       : 0;
    }
  };
  uint64_t amounts[kQuad];
  for (int32_t chunk = warp; chunk < kBins; chunk += kSampleWarps) {
    uint64_t sum = 0;
    if (chunk * kChunk < row.vocab) {
      amounts_of(chunk, amounts);
      sum = amounts[0] + amounts[1] + amounts[2] + amounts[3];
#pragma unroll
      for (int by = kWarpLanes / 2; by > 0; by /= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, by);
      }
    }
    if (lane == 0) {
      shared.low[chunk] = static_cast<uint32_t>(sum);
      shared.high[chunk] = static_cast<uint32_t>(sum >> 32);
    }
  }
  __syncthreads();
  const Bin bin = FindBin(shared, target_of);
  // Each warp for itself: no barrier.
  const auto chunk = static_cast<int32_t>(bin.index);
  amounts_of(chunk, amounts);
  uint64_t upto = amounts[0] + amounts[1] + amounts[2] + amounts[3];
  const uint64_t own = upto;
#pragma unroll
  for (int by = 1; by < kWarpLanes; by *= 2) {
    const uint64_t lower =
        __shfl_up_sync(kAllLanes, upto, static_cast<uint32_t>(by));
    if (lane >= by) upto += lower;
  }
  // The first lane that passes, and within it the first token.
  const uint32_t passing = __ballot_sync(kAllLanes, upto > bin.rest);
  const int32_t first = __ffs(passing) - 1;
  uint64_t sum = upto - own;
  int32_t within = 0;
#pragma unroll
  for (int32_t i = 0; i + 1 < kQuad; ++i) {
    sum += amounts[i];
    if (sum <= bin.rest) within = i + 1;
  }
  return chunk * kChunk + kQuad * first + __shfl_sync(kAllLanes, within, first);
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_BLOCK_CUH_
