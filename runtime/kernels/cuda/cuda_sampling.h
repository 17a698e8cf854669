// Sampling on the device: what runtime/model/sampler.h says, one block of
// threads an output. No CUDA header. Pointers, streams, padding and errors are
// as in cuda_kernels.h.
//
// The same logits give the same token as the CPU's sampler, but where a random
// number or a threshold of a filter falls on a border within rounding: logits
// are adjusted, and turned into weights, in its order of operations and with
// its bits, and weights are summed in integers of 2^-44. Such sums are the same
// in any order, so a result depends on its row alone.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_CUDA_SAMPLING_H_
#define DESCANT_RUNTIME_KERNELS_CUDA_CUDA_SAMPLING_H_

#include <cstdint>

#include "runtime/kernels/cuda/cuda_kernels.h"

namespace descant::kernels {

inline constexpr int32_t kMaxSampleVocab = 262144;
inline constexpr int32_t kMaxSampleTop = 20;

enum class CudaOutputKind : uint8_t {
  kNone,    // padding: nothing is read or written
  kSample,  // SampleToken
  kScore,   // ScoreToken: of `token`, with a log-probability always
};

// One output's parameters: SamplingParams, SampleInput and where arrays begin.
// Values are valid: tokens within the vocabulary, top_p and typical_p in
// (0, 1], min_p in [0, 1], repetition_penalty above 0.
struct CudaOutput {
  uint64_t seed = 0;
  // The tokens before the first of its tail, for penalties: histories[history]
  // on, history_length of them. Not read where there are no penalties.
  int64_t history = 0;
  int32_t history_length = 0;
  int32_t prompt_length = 0;
  // The tokens of the sequence's rows from the first one that samples up to
  // this one's: tokens[tail, tail + tail_length). Drafts, but for the first.
  int32_t tail = 0;
  int32_t tail_length = 0;
  int64_t token_mask = -1;  // first word in token_masks; -1: none
  int32_t bias_begin = 0;   // biases[bias_begin, bias_end), distinct tokens
  int32_t bias_end = 0;
  int32_t banned_begin = 0;  // banned[banned_begin, banned_end)
  int32_t banned_end = 0;
  // Row of the workspace, of no other output. Used where AdjustsLogits().
  int32_t workspace_row = 0;
  int32_t position = 0;
  int32_t choice = 0;     // of parameters and sequence, added
  int32_t token = 0;      // what kScore is about
  float temperature = 0;  // 0: greedy
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float typical_p = 1;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t top_logprobs = -1;  // at most kMaxSampleTop; -1: no log-probability
  int32_t top_begin = 0;      // the first of min(top_logprobs, vocab) in `top`
  CudaOutputKind kind = CudaOutputKind::kNone;
};

constexpr bool PenalisesTokens(const CudaOutput& output) {
  return output.repetition_penalty != 1.0f || output.presence_penalty != 0.0f ||
         output.frequency_penalty != 0.0f;
}
constexpr bool AdjustsLogits(const CudaOutput& output) {
  return PenalisesTokens(output) || output.bias_begin != output.bias_end ||
         output.banned_begin != output.banned_end;
}

struct CudaLogitBias {
  int32_t token = 0;
  float bias = 0;  // minus infinity bans the token
};
struct CudaSampled {
  int32_t token = 0;
  float logprob = 0;
  int32_t numeric_fault = 0;  // 1: then the rest, and the top, is zero
};
struct CudaTokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct SampleArgs {
  const float* logits = nullptr;  // [outputs, vocab]
  int64_t logits_stride = 0;      // a multiple of 4
  int32_t outputs = 0;
  int32_t vocab = 0;                   // at most kMaxSampleVocab
  const CudaOutput* params = nullptr;  // [outputs]
  const int32_t* histories = nullptr;
  // Of rows; a negative one -1 - s stands for last_tokens[s].
  const int32_t* tokens = nullptr;
  const int32_t* last_tokens = nullptr;
  const CudaLogitBias* biases = nullptr;
  const int32_t* banned = nullptr;
  const uint32_t* token_masks = nullptr;
  // Adjusted logits: [rows, workspace_stride], at least vocab, a multiple of 4.
  float* workspace = nullptr;
  int64_t workspace_stride = 0;
  CudaSampled* results = nullptr;   // [outputs]
  CudaTokenLogprob* top = nullptr;  // likeliest first
  void* stream = nullptr;
};

// One sequence's outputs, which belong to the last of its rows.
struct CudaSequenceOutputs {
  int32_t output_begin = 0;
  int32_t output_end = 0;
  int32_t prompt_outputs = 0;
  int32_t row_end = 0;
  int32_t state_slot = 0;
};
// Where the sequence's results end: StepOutput::PerSequence.
struct CudaAccepted {
  int32_t output_end = 0;
  int32_t numeric_fault = 0;
};

// What SampleOutput does with the results of a sequence: they end with the
// first that is not the next row's guess. last_tokens[state_slot] becomes the
// last of them; it stays where there is none, and after a fault.
struct AcceptArgs {
  const CudaSequenceOutputs* sequences = nullptr;  // [count]
  int32_t count = 0;                               // padding has no outputs
  const CudaSampled* results = nullptr;
  const int32_t* tokens = nullptr;   // of rows
  int32_t* last_tokens = nullptr;    // by state slot
  CudaAccepted* accepted = nullptr;  // [count]
  void* stream = nullptr;
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_CUDA_SAMPLING_H_
