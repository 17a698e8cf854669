// The sampler: a block an output. No distribution is stored; each pass over the
// row weighs the tokens again, by the filters found so far, and most passes
// reach the exponential for few tokens. Only logits with penalties, biases or
// bans are written, to the workspace.
#include "absl/strings/str_cat.h"
#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/kernels/cuda/sampling_adjust.cuh"
#include "runtime/kernels/cuda/sampling_block.cuh"
#include "runtime/kernels/cuda/sampling_math.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {
namespace {

constexpr int32_t kAcceptThreads = 128;
constexpr int32_t kLastToken = 0x7fffffff;

// Which tokens are left, and what they weigh. All of them at first.
struct Filter {
  const uint32_t* mask = nullptr;
  float shift = 0;  // the largest allowed value
  float scale = 1;  // 1 / temperature
  // Kept are smaller keys, and this one up to a token.
  uint32_t last_key = 0xffffffffu;
  int32_t last_token = kLastToken;
  float min_p = 0;
  // Typical-p: surprise may differ from the expected one up to this.
  bool typical = false;
  double mean = 0;
  uint32_t farthest = 0xffffffffu;

  __device__ __forceinline__ bool Allows(int32_t token) const {
    return mask == nullptr || (mask[token >> 5] >> (token & 31) & 1u) != 0;
  }
  // Of the tokens that are allowed, after top-k and top-p.
  __device__ __forceinline__ bool Keeps(int32_t token, float value) const {
    const uint32_t key = KeyOf(value);
    if (key > last_key || (key == last_key && token > last_token)) return false;
    return Allows(token);
  }
  __device__ __forceinline__ float Exp(float value) const {
    return ExpNonPositive(__fmul_rn(value - shift, scale));
  }
  __device__ __forceinline__ double LogWeight(float value) const {
    return static_cast<double>(value - shift) * static_cast<double>(scale);
  }
  // The bits of a distance that is not negative: ascending as it does.
  __device__ __forceinline__ uint32_t DistanceKey(float value) const {
    return __float_as_uint(static_cast<float>(fabs(LogWeight(value) - mean)));
  }
  __device__ __forceinline__ float Weight(int32_t token, float value) const {
    if (!Keeps(token, value)) return 0;
    const float weight = Exp(value);
    if (weight < min_p) return 0;
    if (typical && DistanceKey(value) > farthest) return 0;
    return weight;
  }
};

// The likeliest token that is allowed, and its value. `fault`: a value is not
// finite, or there is no such token.
struct Likeliest {
  int32_t token;
  float value;
  bool fault;
};

__device__ __forceinline__ Likeliest FindLikeliest(const SampleShared& shared,
                                                   const LogitRow& row,
                                                   const Filter& filter,
                                                   bool skip_banned) {
  constexpr uint64_t kNone = ~static_cast<uint64_t>(0);
  uint64_t best = kNone;
  ForTokens(row, [&](int32_t token, float value) {
    if (!IsFinite(value)) {
      best = 0;  // less than any finite value gives
    } else if (!(skip_banned && value == kBannedLogit) &&
               filter.Allows(token)) {
      best = min(best, Wide(KeyOf(value), static_cast<uint32_t>(token)));
    }
  });
  best = ReduceMin(shared, best);
  if (best == 0 || best == kNone) return {0, 0, true};
  return {static_cast<int32_t>(static_cast<uint32_t>(best)),
          ValueOfKey(static_cast<uint32_t>(best >> 32)), false};
}

// Cuts the filter to the likeliest tokens: up to the one at which the sum of
// weights, or the number of tokens, passes target_of(total).
template <bool weighted, typename TargetOf>
__device__ __forceinline__ void KeepLikeliest(const SampleShared& shared,
                                              const LogitRow& row,
                                              const TargetOf& target_of,
                                              Filter* filter) {
  const Filter before = *filter;
  const auto amount_of = [&](int32_t token, float value) -> uint64_t {
    if constexpr (weighted) return FixedOf(before.Weight(token, value));
    return before.Keeps(token, value) ? 1 : 0;
  };
  const FoundKey found = FindKey(
      shared, row, [](int32_t, float value) { return KeyOf(value); }, amount_of,
      target_of);
  filter->last_key = found.key;
  if (found.key != before.last_key) filter->last_token = kLastToken;
  const uint64_t one =
      weighted ? FixedOf(before.Exp(ValueOfKey(found.key))) : 1;
  if (found.rest + one >= found.amount) return;  // all tokens of the last key
  filter->last_token = FindInOrder(
      shared, row,
      [&](int32_t token, float value) -> uint64_t {
        return KeyOf(value) == found.key ? amount_of(token, value) : 0;
      },
      [&](uint64_t) { return found.rest; });
}

__device__ __forceinline__ void KeepTypical(const SampleShared& shared,
                                            const LogitRow& row,
                                            float typical_p, Filter* filter) {
  const Filter before = *filter;
  uint64_t total = 0;
  uint64_t moment = 0;
  ForTokens(row, [&](int32_t token, float value) {
    const float weight = before.Weight(token, value);
    if (weight == 0) return;
    total += FixedOf(weight);
    moment += FixedOf(static_cast<double>(weight) * -before.LogWeight(value));
  });
  total = ReduceSum(shared, total);
  moment = ReduceSum(shared, moment);
  filter->mean = -(static_cast<double>(moment) / static_cast<double>(total));
  filter->farthest =
      FindKey(
          shared, row,
          [&](int32_t, float value) { return filter->DistanceKey(value); },
          [&](int32_t token, float value) {
            return FixedOf(before.Weight(token, value));
          },
          [&](uint64_t sum) { return BelowShare(typical_p, sum); })
          .key;
  filter->typical = true;
}

// `filter` knows the mask and the largest allowed value.
__device__ __forceinline__ int32_t Draw(const SampleShared& shared,
                                        const LogitRow& row,
                                        const CudaOutput& params,
                                        Filter filter) {
  filter.scale = fminf(1.0f / params.temperature, kMaxFloat);
  const int32_t top_k = params.top_k;
  if (top_k > 0 && top_k < row.vocab) {
    KeepLikeliest<false>(
        shared, row,
        [&](uint64_t total) {
          return min(static_cast<uint64_t>(top_k), total) - 1;
        },
        &filter);
  }
  const float top_p = params.top_p;
  if (top_p < 1) {
    KeepLikeliest<true>(
        shared, row, [&](uint64_t total) { return BelowShare(top_p, total); },
        &filter);
  }
  filter.min_p = params.min_p;
  if (params.typical_p < 1) {
    KeepTypical(shared, row, params.typical_p, &filter);
  }
  const uint64_t noise = Noise(params.seed, params.position, params.choice);
  return FindInOrder(
      shared, row,
      [&](int32_t token, float value) {
        return FixedOf(filter.Weight(token, value));
      },
      [&](uint64_t total) { return __umul64hi(noise, total); });
}

// Of the unmodified logits, whose largest is `largest`.
struct LogProbabilities {
  float largest;
  float log_sum;

  __device__ __forceinline__ float Of(float value) const {
    return (value - largest) - log_sum;
  }
};

__device__ __forceinline__ LogProbabilities
SumLogits(const SampleShared& shared, const LogitRow& logits, float largest) {
  uint64_t sum = 0;
  ForTokens(logits, [&](int32_t, float value) {
    sum += FixedOf(ExpNonPositive(value - largest));
  });
  sum = ReduceSum(shared, sum);
  return {largest, static_cast<float>(log(static_cast<double>(sum) * 0x1p-44))};
}

// The `count` likeliest, in order.
__device__ __forceinline__ void FillTop(const SampleShared& shared,
                                        const LogitRow& logits,
                                        const LogProbabilities& of,
                                        int32_t count, CudaTokenLogprob* top) {
  Filter filter;
  KeepLikeliest<false>(
      shared, logits,
      [&](uint64_t) { return static_cast<uint64_t>(count - 1); }, &filter);
  // Gathered in any order: keys, tokens, and how many there are.
  const SharedPtr<uint32_t> keys = shared.low;
  const SharedPtr<uint32_t> tokens = shared.high;
  const SharedPtr<uint32_t> gathered = shared.low + kMaxSampleTop;
  if (threadIdx.x == 0) gathered[0] = 0;
  __syncthreads();
  ForTokens(logits, [&](int32_t token, float value) {
    if (!filter.Keeps(token, value)) return;
    const uint32_t place = atomicAdd(gathered, 1u);
    keys[place] = KeyOf(value);
    tokens[place] = static_cast<uint32_t>(token);
  });
  __syncthreads();
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread < count) {
    const uint64_t own = Wide(keys[thread], tokens[thread]);
    int32_t rank = 0;
    for (int32_t i = 0; i < count; ++i) {
      if (Wide(keys[i], tokens[i]) < own) ++rank;
    }
    const auto token = static_cast<int32_t>(static_cast<uint32_t>(own));
    top[rank] = {token, of.Of(logits.values[token])};
  }
}

__device__ __forceinline__ void WriteFault(int32_t count, CudaTokenLogprob* top,
                                           CudaSampled* result) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (thread == 0) *result = {0, 0, 1};
  if (thread < count) top[thread] = {};
}

__global__ void __launch_bounds__(kSampleThreads, 1)
    SampleKernel(const SampleArgs args) {
  DESCANT_SHARED(uint32_t, low, kBins);
  DESCANT_SHARED(uint32_t, high, kBins);
  DESCANT_SHARED(uint64_t, warps, kSampleWarps);
  DESCANT_SHARED(uint64_t, found, 3);
  const SampleShared shared = {low, high, warps, found};
  const int64_t output = blockIdx.x;
  const CudaOutput& params = args.params[output];
  if (params.kind == CudaOutputKind::kNone) return;
  const LogitRow logits = {args.logits + output * args.logits_stride,
                           args.vocab};
  CudaSampled* const result = args.results + output;
  CudaTokenLogprob* const top = args.top + params.top_begin;
  const int32_t count = min(params.top_logprobs, args.vocab);
  const Likeliest largest = FindLikeliest(shared, logits, {}, false);
  if (largest.fault) {
    WriteFault(count, top, result);
    return;
  }
  int32_t token = params.token;
  if (params.kind == CudaOutputKind::kSample) {
    LogitRow row = logits;
    Filter filter;
    if (params.token_mask >= 0) {
      filter.mask = args.token_masks + params.token_mask;
    }
    const bool adjusts = AdjustsLogits(params);
    if (adjusts) row.values = Adjust(args, params, logits);
    Likeliest best = largest;
    if (adjusts || filter.mask != nullptr) {
      best = FindLikeliest(shared, row, filter, true);
      if (best.fault) {
        WriteFault(count, top, result);
        return;
      }
    }
    filter.shift = best.value;
    token =
        params.temperature > 0 ? Draw(shared, row, params, filter) : best.token;
  }
  float logprob = 0;
  if (params.kind == CudaOutputKind::kScore || params.top_logprobs >= 0) {
    const LogProbabilities of = SumLogits(shared, logits, largest.value);
    logprob = of.Of(logits.values[token]);
    if (count > 0) FillTop(shared, logits, of, count, top);
  }
  if (threadIdx.x == 0) *result = {token, logprob, 0};
}

// A thread a sequence.
__global__ void __launch_bounds__(kAcceptThreads)
    AcceptKernel(const AcceptArgs args) {
  const auto index =
      static_cast<int32_t>(blockIdx.x * kAcceptThreads + threadIdx.x);
  if (index >= args.count) return;
  const CudaSequenceOutputs sequence = args.sequences[index];
  const int32_t first = sequence.output_begin + sequence.prompt_outputs;
  const bool drafts = sequence.output_end - first > 1;
  CudaAccepted accepted = {sequence.output_end, 0};
  for (int32_t i = sequence.output_begin; i < accepted.output_end; ++i) {
    const CudaSampled result = args.results[i];
    if (result.numeric_fault != 0) {
      if (drafts) {
        accepted.output_end = i;
      } else {
        accepted.numeric_fault = 1;
      }
    } else if (i >= first && i + 1 < sequence.output_end) {
      const int32_t next_row = sequence.row_end - sequence.output_end + i + 1;
      if (result.token != args.tokens[next_row]) accepted.output_end = i + 1;
    }
  }
  if (accepted.output_end > sequence.output_begin &&
      accepted.numeric_fault == 0) {
    args.last_tokens[sequence.state_slot] =
        args.results[accepted.output_end - 1].token;
  }
  args.accepted[index] = accepted;
}

}  // namespace

absl::Status Sample(const SampleArgs& args) {
  if (args.outputs == 0) return absl::OkStatus();
  if (args.vocab < 1 || args.vocab > kMaxSampleVocab) {
    return absl::InternalError(
        absl::StrCat("sample: a vocabulary of ", args.vocab));
  }
  const LaunchShape shape = {.grid = {static_cast<uint32_t>(args.outputs)},
                             .block = {kSampleThreads},
                             .stream = args.stream};
  return LaunchKernel("sample", &SampleKernel, shape, args);
}

absl::Status AcceptDrafts(const AcceptArgs& args) {
  if (args.count == 0) return absl::OkStatus();
  const LaunchShape shape = {
      .grid = {static_cast<uint32_t>((args.count + kAcceptThreads - 1) /
                                     kAcceptThreads)},
      .block = {kAcceptThreads},
      .stream = args.stream};
  return LaunchKernel("accept", &AcceptKernel, shape, args);
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE
