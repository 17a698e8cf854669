// From logits to a token: a pure function of (logits, parameters, position).
//
// Order of operations, as in Hugging Face's generate() (Transformers 5.17):
//   1. logit bias: added (SequenceBiasLogitsProcessor, one token each);
//   2. repetition penalty p, once for each distinct token of prompt and answer:
//      logit / p where it is positive, else logit * p (Keskar et al. 2019);
//   3. frequency and presence penalty, as OpenAI and vLLM have them and Hugging
//      Face does not: logit -= count * frequency + presence for each token that
//      occurs `count` > 0 times in the answer;
//   4. bans: a bias of minus infinity, BatchSequence::banned (min_tokens, as
//      MinNewTokensLengthLogitsProcessor), the token mask.
// A greedy choice ends here. Then
//   5. temperature;
//   6. top-k: exactly k tokens;
//   7. top-p, over what is left: the likeliest until their sum reaches p;
//   8. min-p: tokens at least min_p times as likely as the likeliest;
//   9. typical-p, over what is left: those whose surprise is nearest to the
//      expected one until their sum reaches p, and those just as near
//      (Meister et al., "Locally Typical Sampling", 2022).
// Every filter keeps at least one token. Ties go to the lowest token id. The
// draw is by inverse CDF in order of token id, with one Philox4x32-10 number
// whose key is the seed and whose counter is (position, choice).
//
// Log-probabilities are natural logs of softmax(logits): of the distribution
// before all of this.
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

// Working memory of one sampling thread: 20 bytes per vocabulary entry.
class SamplerScratch {
 public:
  explicit SamplerScratch(int32_t vocab_size);

  // Of the last draw without log-probabilities: the distribution drawn from,
  // up to a factor. For tests.
  absl::Span<const float> weights() const { return weights_; }

 private:
  friend class SamplerPass;
  struct Candidate {
    float logit;
    int32_t token;
  };
  std::vector<float> weights_;         // [vocab]
  std::vector<float> adjusted_;        // [vocab], logits after penalties
  std::vector<int32_t> counts_;        // [vocab], zero between calls
  std::vector<Candidate> candidates_;  // [vocab]
};

struct SampleInput {
  absl::Span<const float> logits;  // [vocab], at most the scratch's size
  const SamplingParams* params = nullptr;
  // Of the row whose logits these are: the counter of the noise.
  int32_t position = 0;
  // One bit per vocabulary entry, 1 = allowed; null: everything is.
  const uint32_t* token_mask = nullptr;
  // For penalties. The tokens before the row's own, drafts among them behind
  // the others, and that one (or -1); prompt_length of all are the prompt's.
  absl::Span<const int32_t> history;
  absl::Span<const int32_t> drafts;
  int32_t last_token = -1;
  int32_t prompt_length = 0;
  absl::Span<const int32_t> banned;
  int32_t choice = 0;  // added to params->choice
};

struct SampleResult {
  int32_t token = 0;
  float logprob = 0;  // 0 unless params->top_logprobs >= 0
  // A logit is NaN or infinite, or nothing is allowed. Then the rest is zero.
  bool numeric_fault = false;
};

// How many entries of `top` SampleToken fills: params.top_logprobs within
// [0, vocab_size].
int32_t TopCount(const SamplingParams& params, int32_t vocab_size);

// `top` has TopCount() entries; filled likeliest first. Thread-safe for
// distinct scratch. Greedy without log-probabilities is one vectorised pass.
SampleResult SampleToken(const SampleInput& input, SamplerScratch* scratch,
                         absl::Span<TokenLogprob> top);

// The log-probability of `token`, and of the likeliest ones: of a prompt's row
// whose next token is known. The same rules as SampleToken.
SampleResult ScoreToken(absl::Span<const float> logits, int32_t token,
                        SamplerScratch* scratch, absl::Span<TokenLogprob> top);

// The two halves of filling a StepOutput, for every runner.
//
// First, once per step: one PerSequence entry per sequence of the batch, one
// zeroed SampledToken per output (same index as Batch::output_rows), and room
// for the top entries. Keeps capacity.
void LayOutStepOutput(const Batch& batch, int32_t vocab_size,
                      StepOutput* output);

// Then, per output `index` of batch.sequences[sequence], in order: `logits` is
// that output's row, `row_token` the token the row was computed for. A fault
// marks the sequence. False: the outputs behind this one rest on a draft that
// was wrong (or, with drafts, this one is at fault, and not a result either);
// they are no results, and the sequence's entry ends before them. Calls for
// distinct sequences may run concurrently (distinct scratch).
bool SampleOutput(const Batch& batch, int32_t sequence, int32_t index,
                  int32_t row_token, absl::Span<const float> logits,
                  SamplerScratch* scratch, StepOutput* output);

// Afterwards: the last token of every sequence that has a result, by state
// slot: what kTokenFromLastStep will stand for.
void RememberLastTokens(const StepOutput& output,
                        std::vector<int32_t>* last_tokens);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_SAMPLER_H_
