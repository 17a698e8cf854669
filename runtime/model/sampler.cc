#include "runtime/model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/model/philox.h"
#include "runtime/model/vector_math.h"

namespace descant {
namespace {

// Tokens summed at once while the draw is searched.
constexpr int32_t kBlock = 1024;
// Ranges of weights in [0, 1]: exponent and three bits of the fraction.
constexpr int32_t kRangeShift = 20;
constexpr int32_t kRanges = (0x3f800000 >> kRangeShift) + 1;

int32_t RangeOf(float weight) {
  return static_cast<int32_t>(std::bit_cast<uint32_t>(weight) >> kRangeShift);
}

bool Allowed(const uint32_t* mask, int32_t token) {
  return mask == nullptr || ((mask[token >> 5] >> (token & 31)) & 1u) != 0;
}

// In [0, 1), 53 bits.
double Uniform(const SamplingParams& params, int32_t position) {
  const auto bits = Philox4x32({static_cast<uint32_t>(position),
                                static_cast<uint32_t>(params.choice), 0, 0},
                               {static_cast<uint32_t>(params.seed),
                                static_cast<uint32_t>(params.seed >> 32)});
  const uint64_t wide = (static_cast<uint64_t>(bits[0]) << 32) | bits[1];
  return static_cast<double>(wide >> 11) * 0x1p-53;
}

}  // namespace

SamplerScratch::SamplerScratch(int32_t vocab_size)
    : weights_(vocab_size), candidates_(vocab_size) {}

// One call of SampleToken.
class SamplerPass {
 public:
  SamplerPass(const SampleInput& input, SamplerScratch* scratch)
      : logits_(input.logits),
        params_(*input.params),
        position_(input.position),
        mask_(input.token_mask),
        vocab_(static_cast<int32_t>(input.logits.size())),
        scratch_(scratch) {
    DESCANT_CHECK(input.logits.size() <= scratch->weights_.size());
  }

  SampleResult Run(absl::Span<TokenLogprob> top) {
    max_ = FindArgMax(logits_);
    if (!max_.finite) return Fault(top);
    const int32_t best = mask_ == nullptr ? max_.index : ArgMaxMasked();
    if (best < 0) return Fault(top);
    SampleResult result;
    result.token = params_.temperature > 0 ? Draw(best) : best;
    if (params_.top_logprobs >= 0) FillLogprobs(&result, top);
    return result;
  }

 private:
  using Candidate = SamplerScratch::Candidate;

  // Likelier first.
  static bool Before(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  }

  static SampleResult Fault(absl::Span<TokenLogprob> top) {
    std::fill(top.begin(), top.end(), TokenLogprob{});
    SampleResult result;
    result.numeric_fault = true;
    return result;
  }

  // -1 when the mask allows nothing.
  int32_t ArgMaxMasked() const {
    int32_t best = -1;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (!Allowed(mask_, token)) continue;
      if (best < 0 || logits_[token] > logits_[best]) best = token;
    }
    return best;
  }

  absl::Span<float> weights() {
    return absl::MakeSpan(scratch_->weights_).first(vocab_);
  }

  // The `count` likeliest allowed tokens to the front of the candidates, in
  // order; returns how many there are.
  int32_t SelectTop(int32_t count, const uint32_t* mask) {
    Candidate* const heap = scratch_->candidates_.data();
    count = std::min(count, vocab_);
    if (count <= 0) return 0;  // no heap to compare with
    int32_t size = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      // A later token never replaces an equal one: lowest ids win.
      if (size == count && logits_[token] <= heap[0].logit) continue;
      if (!Allowed(mask, token)) continue;
      if (size == count) {
        std::pop_heap(heap, heap + size, Before);
        heap[size - 1] = {logits_[token], token};
      } else {
        heap[size++] = {logits_[token], token};
      }
      std::push_heap(heap, heap + size, Before);
    }
    std::sort_heap(heap, heap + size, Before);
    return size;
  }

  int32_t Draw(int32_t best) {
    // Keeps 0 * scale zero for any positive temperature.
    scale_ =
        std::min(1.0f / params_.temperature, std::numeric_limits<float>::max());
    shift_ = logits_[best];
    WeighAll();
    const absl::Span<float> weights = this->weights();
    const bool top_k = params_.top_k > 0 && params_.top_k < vocab_;
    if (top_k || params_.top_p < 1.0f) {
      const Candidate last = top_k ? LastOfTopK() : LastOfTopP();
      for (int32_t token = 0; token < vocab_; ++token) {
        if (Before(last, {logits_[token], token})) weights[token] = 0;
      }
    }
    if (params_.min_p > 0) {
      for (float& weight : weights) {
        weight = weight >= params_.min_p ? weight : 0;
      }
    }
    return DrawWeighted(best);
  }

  // weights() = softmax(logits / temperature) up to a factor, 0 where masked.
  // The likeliest has weight 1.
  void WeighAll() {
    const absl::Span<float> weights = this->weights();
    if (mask_ == nullptr) {
      ExpShifted(logits_, shift_, scale_, weights);
      return;
    }
    for (int32_t token = 0; token < vocab_; ++token) {
      weights[token] = Allowed(mask_, token)
                           ? logits_[token]
                           : std::numeric_limits<float>::lowest();
    }
    ExpShifted(weights, shift_, scale_, weights);
  }

  // By inverse CDF in order of token id.
  int32_t DrawWeighted(int32_t best) {
    const absl::Span<const float> weights = this->weights();
    const double target = Uniform(params_, position_) * SumInOrder(weights);
    double sum = 0;
    int32_t last = best;
    for (int32_t begin = 0; begin < vocab_; begin += kBlock) {
      const auto block = weights.subspan(begin, kBlock);
      const double block_sum = SumInOrder(block);
      if (sum + block_sum <= target) {
        sum += block_sum;
        continue;
      }
      for (size_t i = 0; i < block.size(); ++i) {
        if (block[i] == 0) continue;
        sum += block[i];
        last = begin + static_cast<int32_t>(i);
        if (sum > target) return last;
      }
    }
    return last;
  }

  // The least likely token that top-k, and top-p over what it left, keep.
  Candidate LastOfTopK() {
    const int32_t count = SelectTop(params_.top_k, mask_);
    const absl::Span<const Candidate> kept(scratch_->candidates_.data(), count);
    if (params_.top_p >= 1.0f) return kept.back();
    double total = 0;
    for (const Candidate& candidate : kept) {
      total += weights()[candidate.token];
    }
    return LastReaching(kept, 0, params_.top_p * total);
  }

  // The first of `ordered` at which `sum` and the weights so far reach
  // `target`, or the last.
  Candidate LastReaching(absl::Span<const Candidate> ordered, double sum,
                         double target) {
    for (const Candidate& candidate : ordered) {
      sum += weights()[candidate.token];
      if (sum >= target) return candidate;
    }
    return ordered.back();
  }

  // The least likely token that top-p keeps. Weights are summed by ranges of
  // an eighth of an octave, and only the range where the sum passes p is
  // sorted: linear time however flat the distribution is.
  Candidate LastOfTopP() {
    const absl::Span<const float> weights = this->weights();
    double ranges[kRanges] = {};
    for (const float weight : weights) ranges[RangeOf(weight)] += weight;
    double total = 0;
    for (const double range : ranges) total += range;
    const double target = params_.top_p * total;
    double sum = 0;
    int32_t range = kRanges - 1;
    while (range > 0 && sum + ranges[range] < target) sum += ranges[range--];
    // Rounding may leave the last range empty.
    while (ranges[range] == 0) ++range;
    int32_t count = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights[token] != 0 && RangeOf(weights[token]) == range) {
        scratch_->candidates_[count++] = {logits_[token], token};
      }
    }
    const auto begin = scratch_->candidates_.begin();
    std::sort(begin, begin + count, Before);
    return LastReaching(
        {scratch_->candidates_.data(), static_cast<size_t>(count)}, sum,
        target);
  }

  void FillLogprobs(SampleResult* result, absl::Span<TokenLogprob> top) {
    ExpShifted(logits_, max_.value, 1.0f, weights());
    const float log_sum = static_cast<float>(std::log(SumInOrder(weights())));
    const auto logprob = [&](float logit) {
      return (logit - max_.value) - log_sum;
    };
    result->logprob = logprob(logits_[result->token]);
    const int32_t count = SelectTop(static_cast<int32_t>(top.size()), nullptr);
    for (int32_t i = 0; i < count; ++i) {
      const Candidate& candidate = scratch_->candidates_[i];
      top[i] = {candidate.token, logprob(candidate.logit)};
    }
  }

  const absl::Span<const float> logits_;
  const SamplingParams& params_;
  const int32_t position_;
  const uint32_t* const mask_;
  const int32_t vocab_;
  SamplerScratch* const scratch_;
  ArgMax max_;       // over all tokens, allowed or not
  float shift_ = 0;  // the largest allowed logit
  float scale_ = 1;  // 1 / temperature
};

int32_t TopCount(const SamplingParams& params, int32_t vocab_size) {
  return std::clamp(params.top_logprobs, 0, vocab_size);
}

SampleResult SampleToken(const SampleInput& input, SamplerScratch* scratch,
                         absl::Span<TokenLogprob> top) {
  return SamplerPass(input, scratch).Run(top);
}

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
    const int32_t count = TopCount(*sequence.sampling, vocab_size);
    for (int32_t i = sequence.output_begin; i < sequence.output_end; ++i) {
      output->sampled[i].top_begin = top;
      top += count;
      output->sampled[i].top_end = top;
    }
  }
  output->top.assign(top, TokenLogprob{});
}

void SampleOutput(const Batch& batch, int32_t sequence, int32_t index,
                  absl::Span<const float> logits, SamplerScratch* scratch,
                  StepOutput* output) {
  const BatchSequence& from = batch.sequences[sequence];
  SampledToken& to = output->sampled[index];
  SampleInput input;
  input.logits = logits;
  input.params = from.sampling;
  input.position = batch.positions[batch.output_rows[index]];
  input.token_mask = from.token_mask;
  const SampleResult result =
      SampleToken(input, scratch,
                  absl::MakeSpan(output->top)
                      .subspan(to.top_begin, to.top_end - to.top_begin));
  to.token = result.token;
  to.logprob = result.logprob;
  if (result.numeric_fault) output->sequences[sequence].numeric_fault = true;
}

}  // namespace descant
