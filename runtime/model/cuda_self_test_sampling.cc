// The self-test of what comes behind a step's logits, and of the library's
// attention.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/kernels/cuda/cuda_sampling.h"
#include "runtime/model/cuda_self_test_arrays.h"
#include "runtime/model/sampler.h"

namespace descant {
namespace {

using kernels::CudaKernels;

constexpr int32_t kVocab = 70;
constexpr int32_t kStride = 72;

}  // namespace

void CheckWidenLogits(const CudaKernels& kernels, CudaTestArrays* arrays,
                      LargestDifference* difference) {
  constexpr int32_t kRows = 2;
  SelfTestValues values(10);
  const auto logits = arrays->Halves(values.Floats(kRows * kStride, 40));
  for (const float cap : {0.0f, 30.0f}) {
    float* const out = arrays->Zeros<float>(kRows * kStride);
    arrays->Launch(kernels.widen_logits, {.logits = arrays->Upload(logits),
                                          .logits_stride = kStride,
                                          .rows = kRows,
                                          .columns = kStride,
                                          .cap = cap,
                                          .out = out,
                                          .out_stride = kStride,
                                          .stream = arrays->stream()});
    const auto got = arrays->Download(out, logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      const double logit = arrays->Float(logits[i]);
      difference->Add(cap == 0 ? logit : cap * std::tanh(logit / cap), got[i]);
    }
  }
}

// Greedy, drawn from what penalties and filters leave, and scored; beside the
// CPU's sampler.
void CheckSample(const CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference) {
  constexpr int32_t kOutputs = 8, kTop = 3, kHistory = 20, kScored = 7;
  SelfTestValues values(11);
  const auto logits = values.Floats(kOutputs * kStride, 3);
  std::vector<int32_t> history(kHistory);
  for (int32_t i = 0; i < kHistory; ++i) history[i] = i * i % kVocab;
  const std::vector<int32_t> tokens = {41};
  std::vector<kernels::CudaOutput> outputs(kOutputs);
  std::vector<SamplingParams> params(kOutputs);
  for (int32_t i = 0; i < kOutputs; ++i) {
    params[i].temperature = i == 0 ? 0 : 0.8f;
    params[i].seed = static_cast<uint64_t>(100 + i);
    params[i].top_k = i % 3 == 1 ? 9 : 0;
    params[i].top_p = i % 3 == 2 ? 0.7f : 1;
    params[i].repetition_penalty = i > 3 ? 1.5f : 1;
    params[i].frequency_penalty = i == 5 ? 0.5f : 0;
    params[i].top_logprobs = kTop;
    outputs[i] = {.seed = params[i].seed,
                  .history_length = kHistory,
                  .prompt_length = kHistory / 2,
                  .tail_length = 1,
                  .workspace_row = i,
                  .position = kHistory,
                  .token = kScored,
                  .temperature = params[i].temperature,
                  .top_k = params[i].top_k,
                  .top_p = params[i].top_p,
                  .repetition_penalty = params[i].repetition_penalty,
                  .frequency_penalty = params[i].frequency_penalty,
                  .top_logprobs = kTop,
                  .top_begin = i * kTop,
                  .kind = i == 3 ? kernels::CudaOutputKind::kScore
                                 : kernels::CudaOutputKind::kSample};
  }
  auto* const results = arrays->Zeros<kernels::CudaSampled>(kOutputs);
  auto* const top = arrays->Zeros<kernels::CudaTokenLogprob>(kOutputs * kTop);
  arrays->Launch(kernels.sample,
                 {.logits = arrays->Upload(logits),
                  .logits_stride = kStride,
                  .outputs = kOutputs,
                  .vocab = kVocab,
                  .params = arrays->Upload(outputs),
                  .histories = arrays->Upload(history),
                  .tokens = arrays->Upload(tokens),
                  .workspace = arrays->Zeros<float>(kOutputs * kStride),
                  .workspace_stride = kStride,
                  .results = results,
                  .top = top,
                  .stream = arrays->stream()});
  const auto got = arrays->Download(results, kOutputs);
  const auto got_top = arrays->Download(top, kOutputs * kTop);
  SamplerScratch scratch(kVocab);
  for (int32_t i = 0; i < kOutputs; ++i) {
    SampleInput input;
    input.logits = absl::MakeConstSpan(logits).subspan(i * kStride, kVocab);
    input.params = &params[i];
    input.position = kHistory;
    input.history = history;
    input.last_token = tokens[0];
    input.prompt_length = kHistory / 2;
    std::vector<TokenLogprob> wanted_top(kTop);
    const SampleResult wanted =
        i == 3 ? ScoreToken(input.logits, kScored, &scratch,
                            absl::MakeSpan(wanted_top))
               : SampleToken(input, &scratch, absl::MakeSpan(wanted_top));
    difference->Add(wanted.token, got[i].token);
    difference->Add(wanted.logprob, got[i].logprob);
    for (int32_t j = 0; j < kTop; ++j) {
      difference->Add(wanted_top[j].token, got_top[i * kTop + j].token);
      difference->Add(wanted_top[j].logprob, got_top[i * kTop + j].logprob);
    }
  }
}

// Guesses that are right, wrong, and behind a fault.
void CheckAcceptDrafts(const CudaKernels& kernels, CudaTestArrays* arrays,
                       LargestDifference* difference) {
  const std::vector<int32_t> tokens = {1, 5, 6, 2, 7, 8, 9};
  const std::vector<kernels::CudaSequenceOutputs> sequences = {
      {.output_begin = 0, .output_end = 3, .row_end = 3, .state_slot = 1},
      {.output_begin = 3, .output_end = 6, .row_end = 6, .state_slot = 0},
      {.output_begin = 6, .output_end = 7, .row_end = 7, .state_slot = 2}};
  const std::vector<kernels::CudaSampled> results = {
      {5, 0, 0}, {6, 0, 0},  {30, 0, 0}, {7, 0, 0},
      {9, 0, 0}, {10, 0, 0}, {0, 0, 1}};
  const std::vector<int32_t> last_tokens = {50, 51, 52};
  auto* const last = arrays->Upload(last_tokens);
  auto* const accepted = arrays->Zeros<kernels::CudaAccepted>(sequences.size());
  arrays->Launch(kernels.accept_drafts,
                 {.sequences = arrays->Upload(sequences),
                  .count = static_cast<int32_t>(sequences.size()),
                  .results = arrays->Upload(results),
                  .tokens = arrays->Upload(tokens),
                  .last_tokens = last,
                  .accepted = accepted,
                  .stream = arrays->stream()});
  const auto got = arrays->Download(accepted, sequences.size());
  const auto got_last = arrays->Download(last, last_tokens.size());
  const std::vector<int32_t> ends = {3, 5, 7}, wanted_last = {9, 30, 52};
  for (size_t i = 0; i < sequences.size(); ++i) {
    difference->Add(ends[i], got[i].output_end);
    difference->Add(i == 2 ? 1 : 0, got[i].numeric_fault);
    difference->Add(wanted_last[i], got_last[i]);
  }
}

// Two chunks, one of them behind a context.
void CheckChunkAttention(const CudaKernels& /*kernels*/, CudaTestArrays* arrays,
                         LargestDifference* difference) {
  constexpr int32_t kHeads = 4, kKvHeads = 2, kHeadDim = 64;
  constexpr int32_t kRows = 9, kKeys = 24, kSequences = 2;
  constexpr float kScale = 0.2f;
  const std::vector<int32_t> row_begins = {0, 4, kRows};
  const std::vector<int32_t> key_begins = {0, 19, kKeys};
  if (!arrays->HasChunkAttention(kHeadDim)) return;
  SelfTestValues random(12);
  const auto q = arrays->Halves(random.Floats(kRows * kHeads * kHeadDim, 2));
  const auto keys = arrays->Halves(kKeys * kKvHeads * kHeadDim, &random);
  const auto values = arrays->Halves(kKeys * kKvHeads * kHeadDim, &random);
  const auto key_at = [&](const std::vector<uint16_t>& of, int32_t key,
                          int32_t head, int32_t i) {
    return double{arrays->Float(
        of[(key * kKvHeads + head / (kHeads / kKvHeads)) * kHeadDim + i])};
  };
  for (const int32_t window : {0, 6}) {
    auto* const out = arrays->Zeros<uint16_t>(q.size());
    arrays->Attend({.q = arrays->Upload(q),
                    .q_stride = kHeads * kHeadDim,
                    .keys = arrays->Upload(keys),
                    .values = arrays->Upload(values),
                    .row_begins = arrays->Upload(row_begins),
                    .key_begins = arrays->Upload(key_begins),
                    .sequences = kSequences,
                    .rows = kRows,
                    .key_count = kKeys,
                    .most_rows = 5,
                    .most_keys = 19,
                    .heads = kHeads,
                    .kv_heads = kKvHeads,
                    .head_dim = kHeadDim,
                    .window = window,
                    .scale = kScale,
                    .out = out,
                    .out_stride = kHeads * kHeadDim});
    const auto got = arrays->Download(out, q.size());
    for (int32_t at = 0; at < kRows * kHeads; ++at) {
      const int32_t row = at / kHeads, head = at % kHeads;
      const int32_t sequence = row < row_begins[1] ? 0 : 1;
      const int32_t end =
          key_begins[sequence + 1] - row_begins[sequence + 1] + row + 1;
      const int32_t begin = window == 0
                                ? key_begins[sequence]
                                : std::max(key_begins[sequence], end - window);
      double sum = 0;
      std::vector<double> wanted(kHeadDim);
      for (int32_t key = begin; key < end; ++key) {
        double score = 0;
        for (int32_t i = 0; i < kHeadDim; ++i) {
          score +=
              arrays->Float(q[at * kHeadDim + i]) * key_at(keys, key, head, i);
        }
        const double weight = std::exp(kScale * score);
        sum += weight;
        for (int32_t i = 0; i < kHeadDim; ++i) {
          wanted[i] += weight * key_at(values, key, head, i);
        }
      }
      for (int32_t i = 0; i < kHeadDim; ++i) {
        difference->Add(wanted[i] / sum, arrays->Float(got[at * kHeadDim + i]));
      }
    }
  }
}

}  // namespace descant
