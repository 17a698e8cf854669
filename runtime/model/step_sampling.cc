// A step's outputs: where each one's results go, and what is sampled from it.
#include <algorithm>
#include <vector>

#include "runtime/model/sampler.h"

namespace descant {

void LayOutStepOutput(const Batch& batch, int32_t vocab_size,
                      StepOutput* output) {
  output->step = batch.step;
  output->sequences.clear();
  output->sampled.assign(batch.output_rows.size(), SampledToken{});
  int32_t top = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    output->sequences.push_back({sequence.id, sequence.state_slot,
                                 sequence.output_begin, sequence.output_end,
                                 false});
    if (sequence.output_begin == sequence.output_end) continue;
    const int32_t prompt_end = sequence.output_begin + sequence.prompt_outputs;
    for (int32_t i = sequence.output_begin; i < sequence.output_end; ++i) {
      output->sampled[i].top_begin = top;
      top += std::clamp(i < prompt_end ? sequence.sampling->prompt_logprobs
                                       : sequence.sampling->top_logprobs,
                        0, vocab_size);
      output->sampled[i].top_end = top;
    }
  }
  output->top.assign(top, TokenLogprob{});
}

bool SampleOutput(const Batch& batch, int32_t sequence, int32_t index,
                  int32_t row_token, absl::Span<const float> logits,
                  SamplerScratch* scratch, StepOutput* output) {
  const BatchSequence& from = batch.sequences[sequence];
  SampledToken& to = output->sampled[index];
  const absl::Span<TokenLogprob> top =
      absl::MakeSpan(output->top)
          .subspan(to.top_begin, to.top_end - to.top_begin);
  const int32_t row = batch.output_rows[index];
  const int32_t position = batch.positions[row];
  const int32_t first = from.output_begin + from.prompt_outputs;
  SampleResult result;
  if (index < first) {
    result = ScoreToken(logits, from.history[position + 1], scratch, top);
  } else {
    SampleInput input;
    input.logits = logits;
    input.params = from.sampling;
    input.position = position;
    input.token_mask = from.token_mask;
    // The rows from the first one that samples up to this one.
    const size_t before = index - first;
    if (from.history != nullptr) {
      input.history = {from.history, static_cast<size_t>(position) - before};
      input.drafts = {&batch.tokens[row] - before, before};
      input.prompt_length = from.prompt_length;
      input.last_token = row_token;
    }
    if (from.banned != nullptr &&
        from.generated + index - first < from.sampling->min_tokens) {
      input.banned = *from.banned;
    }
    input.choice = from.choice;
    result = SampleToken(input, scratch, top);
  }
  to.token = result.token;
  to.logprob = result.logprob;
  StepOutput::PerSequence& results = output->sequences[sequence];
  const bool drafts = from.output_end - first > 1;
  if (result.numeric_fault) {
    results.numeric_fault = !drafts;
    if (drafts) results.end = index;
    return !drafts;
  }
  if (index < first || index + 1 == from.output_end ||
      result.token == batch.tokens[row + 1]) {
    return true;
  }
  results.end = index + 1;
  return false;
}

void RememberLastTokens(const StepOutput& output,
                        std::vector<int32_t>* last_tokens) {
  for (const StepOutput::PerSequence& sequence : output.sequences) {
    if (sequence.begin >= sequence.end || sequence.numeric_fault) continue;
    (*last_tokens)[sequence.state_slot] =
        output.sampled[sequence.end - 1].token;
  }
}

}  // namespace descant
