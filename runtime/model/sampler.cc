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

// The logit of a token that is not to be chosen. Finite, and so low that its
// weight is zero at any temperature.
constexpr float kBanned = std::numeric_limits<float>::lowest();
// Ranges of any positive float, as above.
constexpr int32_t kAllRanges = (0x7f800000 >> kRangeShift) + 1;

bool Allowed(const uint32_t* mask, int32_t token) {
  return mask == nullptr || ((mask[token >> 5] >> (token & 31)) & 1u) != 0;
}

// In [0, 1), 53 bits.
double Uniform(uint64_t seed, int32_t position, int32_t choice) {
  const auto bits = Philox4x32(
      {static_cast<uint32_t>(position), static_cast<uint32_t>(choice), 0, 0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t wide = (static_cast<uint64_t>(bits[0]) << 32) | bits[1];
  return static_cast<double>(wide >> 11) * 0x1p-53;
}

}  // namespace

SamplerScratch::SamplerScratch(int32_t vocab_size)
    : weights_(vocab_size),
      adjusted_(vocab_size),
      counts_(vocab_size),
      candidates_(vocab_size) {}

// One call of SampleToken or ScoreToken.
class SamplerPass {
 public:
  SamplerPass(const SampleInput& input, SamplerScratch* scratch)
      : logits_(input.logits),
        scores_(input.logits),
        input_(input),
        mask_(input.token_mask),
        vocab_(static_cast<int32_t>(input.logits.size())),
        scratch_(scratch) {
    DESCANT_CHECK(input.logits.size() <= scratch->weights_.size());
  }

  SampleResult Run(absl::Span<TokenLogprob> top) {
    max_ = FindArgMax(logits_);
    if (!max_.finite) return Fault(top);
    int32_t best = max_.index;
    if (Adjusts()) {
      Adjust();
      const ArgMax adjusted = FindArgMax(scores_);
      if (!adjusted.finite || adjusted.value == kBanned) return Fault(top);
      best = adjusted.index;
    }
    if (mask_ != nullptr) best = ArgMaxMasked();
    if (best < 0) return Fault(top);
    const SamplingParams& params = *input_.params;
    SampleResult result;
    result.token = params.temperature > 0 ? Draw(best) : best;
    if (params.top_logprobs >= 0) FillLogprobs(&result, top);
    return result;
  }

  SampleResult Score(int32_t token, absl::Span<TokenLogprob> top) {
    max_ = FindArgMax(logits_);
    if (!max_.finite) return Fault(top);
    SampleResult result;
    result.token = token;
    FillLogprobs(&result, top);
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

  bool Adjusts() const {
    const SamplingParams& params = *input_.params;
    return params.repetition_penalty != 1.0f || Penalises() ||
           !params.logit_bias.empty() || !input_.banned.empty();
  }
  bool Penalises() const {
    return input_.params->presence_penalty != 0.0f ||
           input_.params->frequency_penalty != 0.0f;
  }

  // From here on scores_ are the adjusted logits.
  void Adjust() {
    const SamplingParams& params = *input_.params;
    const absl::Span<float> scores =
        absl::MakeSpan(scratch_->adjusted_).first(vocab_);
    std::copy(logits_.begin(), logits_.end(), scores.begin());
    scores_ = scores;
    for (const LogitBias& bias : params.logit_bias) {
      if (std::isfinite(bias.bias)) scores[bias.token] += bias.bias;
    }
    if (params.repetition_penalty != 1.0f) PenaliseRepetition(scores);
    if (Penalises()) PenaliseAnswer(scores);
    for (const LogitBias& bias : params.logit_bias) {
      if (!std::isfinite(bias.bias)) scores[bias.token] = kBanned;
    }
    for (const int32_t token : input_.banned) scores[token] = kBanned;
  }

  // void(token) for each token of the history from position `begin` on.
  template <typename Visit>
  void ForHistory(size_t begin, Visit visit) const {
    for (size_t i = begin; i < input_.history.size(); ++i) {
      visit(input_.history[i]);
    }
    // Never the prompt's.
    for (const int32_t token : input_.drafts) visit(token);
    if (input_.last_token >= 0) visit(input_.last_token);
  }

  void PenaliseRepetition(absl::Span<float> scores) {
    std::vector<int32_t>& seen = scratch_->counts_;
    const float penalty = input_.params->repetition_penalty;
    ForHistory(0, [&](int32_t token) {
      if (seen[token]++ > 0) return;
      float& score = scores[token];
      score = score < 0 ? score * penalty : score / penalty;
    });
    ForHistory(0, [&](int32_t token) { seen[token] = 0; });
  }

  void PenaliseAnswer(absl::Span<float> scores) {
    // The row's own token may still be the prompt's.
    const size_t begin = input_.prompt_length;
    if (input_.history.size() < begin) return;
    std::vector<int32_t>& counts = scratch_->counts_;
    const SamplingParams& params = *input_.params;
    ForHistory(begin, [&](int32_t token) { ++counts[token]; });
    ForHistory(begin, [&](int32_t token) {
      if (counts[token] == 0) return;
      scores[token] -=
          static_cast<float>(counts[token]) * params.frequency_penalty +
          params.presence_penalty;
      counts[token] = 0;
    });
  }

  // -1 when nothing is allowed.
  int32_t ArgMaxMasked() const {
    int32_t best = -1;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (!Allowed(mask_, token) || scores_[token] == kBanned) continue;
      if (best < 0 || scores_[token] > scores_[best]) best = token;
    }
    return best;
  }

  absl::Span<float> weights() {
    return absl::MakeSpan(scratch_->weights_).first(vocab_);
  }

  // The `count` allowed tokens with the highest scores to the front of the
  // candidates, in order; returns how many there are.
  int32_t SelectTop(absl::Span<const float> scores, int32_t count,
                    const uint32_t* mask) {
    Candidate* const heap = scratch_->candidates_.data();
    count = std::min(count, vocab_);
    if (count <= 0) return 0;  // no heap to compare with
    int32_t size = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      // A later token never replaces an equal one: lowest ids win.
      if (size == count && scores[token] <= heap[0].logit) continue;
      if (!Allowed(mask, token)) continue;
      if (size == count) {
        std::pop_heap(heap, heap + size, Before);
        heap[size - 1] = {scores[token], token};
      } else {
        heap[size++] = {scores[token], token};
      }
      std::push_heap(heap, heap + size, Before);
    }
    std::sort_heap(heap, heap + size, Before);
    return size;
  }

  int32_t Draw(int32_t best) {
    const SamplingParams& params = *input_.params;
    // Keeps 0 * scale zero for any positive temperature.
    scale_ =
        std::min(1.0f / params.temperature, std::numeric_limits<float>::max());
    shift_ = scores_[best];
    WeighAll();
    const absl::Span<float> weights = this->weights();
    const bool top_k = params.top_k > 0 && params.top_k < vocab_;
    if (top_k || params.top_p < 1.0f) {
      const Candidate last = top_k ? LastOfTopK() : LastOfTopP();
      for (int32_t token = 0; token < vocab_; ++token) {
        if (Before(last, {scores_[token], token})) weights[token] = 0;
      }
    }
    if (params.min_p > 0) {
      for (float& weight : weights) {
        weight = weight >= params.min_p ? weight : 0;
      }
    }
    if (params.typical_p < 1.0f) KeepTypical();
    return DrawWeighted();
  }

  // weights() = softmax(logits / temperature) up to a factor, 0 where masked.
  // The likeliest has weight 1.
  void WeighAll() {
    const absl::Span<float> weights = this->weights();
    if (mask_ == nullptr) {
      ExpShifted(scores_, shift_, scale_, weights);
      return;
    }
    for (int32_t token = 0; token < vocab_; ++token) {
      weights[token] = Allowed(mask_, token) ? scores_[token] : kBanned;
    }
    ExpShifted(weights, shift_, scale_, weights);
  }

  // By inverse CDF in order of token id.
  int32_t DrawWeighted() {
    const absl::Span<const float> weights = this->weights();
    const SamplingParams& params = *input_.params;
    const double target =
        Uniform(params.seed, input_.position, params.choice + input_.choice) *
        SumInOrder(weights);
    double sum = 0;
    int32_t last = 0;
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
    // Rounding: the last token that has a weight.
    for (last = vocab_ - 1; weights[last] == 0;) --last;
    return last;
  }

  // The least likely token that top-k, and top-p over what it left, keep.
  Candidate LastOfTopK() {
    const float top_p = input_.params->top_p;
    const int32_t count = SelectTop(scores_, input_.params->top_k, mask_);
    const absl::Span<const Candidate> kept(scratch_->candidates_.data(), count);
    if (top_p >= 1.0f) return kept.back();
    double total = 0;
    for (const Candidate& candidate : kept) {
      total += weights()[candidate.token];
    }
    return LastReaching(kept, 0, top_p * total);
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
    const double target = input_.params->top_p * total;
    double sum = 0;
    int32_t range = kRanges - 1;
    while (range > 0 && sum + ranges[range] < target) sum += ranges[range--];
    // Rounding may leave the last range empty.
    while (ranges[range] == 0) ++range;
    int32_t count = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights[token] != 0 && RangeOf(weights[token]) == range) {
        scratch_->candidates_[count++] = {scores_[token], token};
      }
    }
    const auto begin = scratch_->candidates_.begin();
    std::sort(begin, begin + count, Before);
    return LastReaching(
        {scratch_->candidates_.data(), static_cast<size_t>(count)}, sum,
        target);
  }

  // The entropy is log(sum of weights) - the mean of x = log(weight), so a
  // token's surprise differs from it by |x - mean|. Summed by ranges as in
  // LastOfTopP, from the nearest on.
  void KeepTypical() {
    const absl::Span<float> weights = this->weights();
    const auto log_weight = [&](int32_t token) {
      return double{scores_[token] - shift_} * scale_;
    };
    double total = 0;
    double mean = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights[token] == 0) continue;
      total += weights[token];
      mean += weights[token] * log_weight(token);
    }
    mean /= total;
    const auto distance = [&](int32_t token) {
      return static_cast<float>(std::abs(log_weight(token) - mean));
    };
    double ranges[kAllRanges] = {};
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights[token] != 0) {
        ranges[RangeOf(distance(token))] += weights[token];
      }
    }
    const double target = input_.params->typical_p * total;
    double sum = 0;
    int32_t range = 0;
    while (range + 1 < kAllRanges && sum + ranges[range] < target) {
      sum += ranges[range++];
    }
    while (ranges[range] == 0) --range;
    const float limit = LastTypical(range, sum, target, distance);
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights[token] != 0 && distance(token) > limit) weights[token] = 0;
    }
  }

  // The distance within `range` at which `sum` and the weights so far reach
  // `target`.
  template <typename Distance>
  float LastTypical(int32_t range, double sum, double target,
                    const Distance& distance) {
    int32_t count = 0;
    for (int32_t token = 0; token < vocab_; ++token) {
      if (weights()[token] == 0) continue;
      const float at = distance(token);
      // Before() puts the greatest first.
      if (RangeOf(at) == range) scratch_->candidates_[count++] = {-at, token};
    }
    const auto begin = scratch_->candidates_.begin();
    std::sort(begin, begin + count, Before);
    return -LastReaching(
                {scratch_->candidates_.data(), static_cast<size_t>(count)}, sum,
                target)
                .logit;
  }

  void FillLogprobs(SampleResult* result, absl::Span<TokenLogprob> top) {
    ExpShifted(logits_, max_.value, 1.0f, weights());
    const float log_sum = static_cast<float>(std::log(SumInOrder(weights())));
    const auto logprob = [&](float logit) {
      return (logit - max_.value) - log_sum;
    };
    result->logprob = logprob(logits_[result->token]);
    const int32_t count =
        SelectTop(logits_, static_cast<int32_t>(top.size()), nullptr);
    for (int32_t i = 0; i < count; ++i) {
      const Candidate& candidate = scratch_->candidates_[i];
      top[i] = {candidate.token, logprob(candidate.logit)};
    }
  }

  const absl::Span<const float> logits_;
  absl::Span<const float> scores_;  // what is chosen by
  const SampleInput& input_;
  const uint32_t* const mask_;
  const int32_t vocab_;
  SamplerScratch* const scratch_;
  ArgMax max_;       // over all tokens, allowed or not
  float shift_ = 0;  // the largest allowed score
  float scale_ = 1;  // 1 / temperature
};

int32_t TopCount(const SamplingParams& params, int32_t vocab_size) {
  return std::clamp(params.top_logprobs, 0, vocab_size);
}

SampleResult SampleToken(const SampleInput& input, SamplerScratch* scratch,
                         absl::Span<TokenLogprob> top) {
  return SamplerPass(input, scratch).Run(top);
}

SampleResult ScoreToken(absl::Span<const float> logits, int32_t token,
                        SamplerScratch* scratch, absl::Span<TokenLogprob> top) {
  SampleInput input;
  input.logits = logits;
  return SamplerPass(input, scratch).Score(token, top);
}

}  // namespace descant
