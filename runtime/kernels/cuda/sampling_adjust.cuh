// Logits with biases, penalties and bans, in the order of
// runtime/model/sampler.h, in one array: how often a token occurs is counted in
// the place of its adjusted logit, in the bits of NaNs.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_ADJUST_CUH_
#define DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_ADJUST_CUH_

#include <descant_device.cuh>

#include "runtime/kernels/cuda/sampling_block.cuh"
#include "runtime/kernels/cuda/sampling_math.cuh"

namespace descant::kernels::DESCANT_CUDA_NAMESPACE {

// A token that is not in the answer; of one that is, the count is added, up to
// 2^22. No logit has all of these bits.
inline constexpr uint32_t kCounted = 0x7fc00000u;
// Set where it is in the prompt.
inline constexpr uint32_t kInPrompt = 0x80000000u;

__device__ __forceinline__ bool IsCount(float place) {
  return (__float_as_uint(place) & kCounted) == kCounted;
}

__device__ __forceinline__ float Penalise(const CudaOutput& params, float place,
                                          float value) {
  const uint32_t bits = __float_as_uint(place);
  const uint32_t count = bits & ~(kCounted | kInPrompt);
  if (params.repetition_penalty != 1.0f && bits != kCounted) {
    value = value < 0 ? __fmul_rn(value, params.repetition_penalty)
                      : value / params.repetition_penalty;
  }
  if (count > 0) {
    value -= __fadd_rn(
        __fmul_rn(static_cast<float>(count), params.frequency_penalty),
        params.presence_penalty);
  }
  return value;
}

// Ends with a barrier.
__device__ __forceinline__ void CountTokens(const SampleArgs& args,
                                            const CudaOutput& params,
                                            float* places) {
  const int32_t* const history = args.histories + params.history;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto tail_token = [&](int32_t i) {
    const int32_t token = args.tokens[params.tail + i];
    return token < 0 ? args.last_tokens[-1 - token] : token;
  };
  const float in_prompt = __uint_as_float(kCounted | kInPrompt);
  const auto count = [&](int32_t token) {
    atomicAdd(reinterpret_cast<int32_t*>(places + token), 1);
  };
  // The row's own token may still be the prompt's; then there is no answer.
  const bool answer = params.history_length >= params.prompt_length;
  const int32_t prompt = min(params.prompt_length, params.history_length);
  for (int32_t i = thread; i < prompt; i += kSampleThreads) {
    places[history[i]] = in_prompt;
  }
  if (!answer) {
    for (int32_t i = thread; i < params.tail_length; i += kSampleThreads) {
      places[tail_token(i)] = in_prompt;
    }
  }
  __syncthreads();
  if (answer) {
    for (int32_t i = prompt + thread; i < params.history_length;
         i += kSampleThreads) {
      count(history[i]);
    }
    for (int32_t i = thread; i < params.tail_length; i += kSampleThreads) {
      count(tail_token(i));
    }
  }
  __syncthreads();
}

// The adjusted logits, in the output's row of the workspace. Ends with a
// barrier.
__device__ __forceinline__ const float* Adjust(const SampleArgs& args,
                                               const CudaOutput& params,
                                               const LogitRow& logits) {
  float* const places =
      args.workspace + params.workspace_row * args.workspace_stride;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t i = thread; i < logits.vocab; i += kSampleThreads) {
    places[i] = __uint_as_float(kCounted);
  }
  __syncthreads();
  if (PenalisesTokens(params)) CountTokens(args, params, places);
  for (int32_t i = params.bias_begin + thread; i < params.bias_end;
       i += kSampleThreads) {
    const CudaLogitBias bias = args.biases[i];
    float value = kBannedLogit;
    if (IsFinite(bias.bias)) {
      value = Penalise(params, places[bias.token],
                       logits.values[bias.token] + bias.bias);
    }
    places[bias.token] = value;
  }
  __syncthreads();
  for (int32_t i = params.banned_begin + thread; i < params.banned_end;
       i += kSampleThreads) {
    places[args.banned[i]] = kBannedLogit;
  }
  __syncthreads();  // a banned token's place is read below
  for (int32_t i = thread; i < logits.vocab; i += kSampleThreads) {
    if (IsCount(places[i])) {
      places[i] = Penalise(params, places[i], logits.values[i]);
    }
  }
  __syncthreads();
  return places;
}

}  // namespace descant::kernels::DESCANT_CUDA_NAMESPACE

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_SAMPLING_ADJUST_CUH_
