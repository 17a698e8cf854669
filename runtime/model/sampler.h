// From logits to a token: a pure function of (logits, parameters, position).
//
// Order of operations, as in Hugging Face's generate(): token mask,
// temperature, top-k, top-p (over what top-k left), min-p. Ties go to the
// lowest token id everywhere, so top-k keeps exactly k tokens. top-p keeps the
// likeliest tokens until their sum reaches p, and always one; min-p keeps
// tokens at least min_p times as likely as the likeliest. The draw is by
// inverse CDF in order of token id, with one Philox4x32-10 number whose key is
// the seed and whose counter is (position, choice).
//
// Log-probabilities are natural logs of softmax(logits): of the distribution
// before mask, temperature and filters.
//
// Nothing here allocates except the constructor of SamplerScratch. No Torch.
#ifndef DESCANT_RUNTIME_MODEL_SAMPLER_H_
#define DESCANT_RUNTIME_MODEL_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/core/batch.h"
#include "runtime/core/request.h"

namespace descant {

// Working memory of one sampling thread: 12 bytes per vocabulary entry.
class SamplerScratch {
 public:
  explicit SamplerScratch(int32_t vocab_size);

 private:
  friend class SamplerPass;
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<float> weights_;         // [vocab]
  std::vector<Candidate> candidates_;  // [vocab]
};

struct SampleInput {
  absl::Span<const float> logits;  // [vocab], at most the scratch's size
  const SamplingParams* params = nullptr;
  // Of the row whose logits these are: the counter of the noise.
  int32_t position = 0;
  // One bit per vocabulary entry, 1 = allowed; null: everything is.
  const uint32_t* token_mask = nullptr;
};

struct SampleResult {
  int32_t token = 0;
  float logprob = 0;  // 0 unless params->top_logprobs >= 0
  // A logit is NaN or infinite, or the mask allows nothing. Then the rest is
  // zero.
  bool numeric_fault = false;
};

// How many entries of `top` SampleToken fills: params.top_logprobs within
// [0, vocab_size].
int32_t TopCount(const SamplingParams& params, int32_t vocab_size);

// `top` has TopCount() entries; filled likeliest first. Thread-safe for
// distinct scratch. Greedy without log-probabilities is one vectorised pass.
SampleResult SampleToken(const SampleInput& input, SamplerScratch* scratch,
                         absl::Span<TokenLogprob> top);

// The two halves of filling a StepOutput, for every runner.
//
// First, once per step: one PerSequence entry per sequence of the batch, one
// zeroed SampledToken per output (same index as Batch::output_rows), and room
// for the top entries. Keeps capacity.
void LayOutStepOutput(const Batch& batch, int32_t vocab_size,
                      StepOutput* output);

// Then, per output `index` of batch.sequences[sequence]: `logits` is that
// output's row. A fault marks the sequence. Calls for distinct sequences may
// run concurrently (distinct scratch).
void SampleOutput(const Batch& batch, int32_t sequence, int32_t index,
                  absl::Span<const float> logits, SamplerScratch* scratch,
                  StepOutput* output);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_SAMPLER_H_
