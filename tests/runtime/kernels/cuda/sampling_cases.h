// Outputs for both samplers: as the CPU's gets them, and as arrays for a launch
// of the device's.
#ifndef DESCANT_TESTS_RUNTIME_KERNELS_CUDA_SAMPLING_CASES_H_
#define DESCANT_TESTS_RUNTIME_KERNELS_CUDA_SAMPLING_CASES_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "runtime/model/philox.h"
#include "runtime/model/sampler.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {

using cuda_emulation::GuardedArray;

inline constexpr double kBorder = 1e-5;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline int32_t Between(std::mt19937_64& random, int32_t from, int32_t to) {
  return std::uniform_int_distribution<int32_t>(from, to)(random);
}
inline float Uniform(std::mt19937_64& random, float from, float to) {
  return std::uniform_real_distribution<float>(from, to)(random);
}

// One output, as the CPU's sampler gets it.
struct Case {
  std::vector<float> logits;
  SamplingParams params;
  int32_t position = 0;
  int32_t choice = 0;
  std::vector<uint32_t> mask;
  std::vector<int32_t> history;
  std::vector<int32_t> drafts;
  int32_t last_token = -1;
  bool last_token_on_device = false;
  int32_t prompt_length = 0;
  std::vector<int32_t> banned;
  int32_t scored = -1;  // the token to score instead of sampling one
};

struct Outcome {
  SampleResult result;
  std::vector<TokenLogprob> top;
};

inline SampleInput InputOf(const Case& of) {
  SampleInput input;
  input.logits = of.logits;
  input.params = &of.params;
  input.position = of.position;
  input.choice = of.choice;
  if (!of.mask.empty()) input.token_mask = of.mask.data();
  input.history = of.history;
  input.drafts = of.drafts;
  input.last_token = of.last_token;
  input.prompt_length = of.prompt_length;
  input.banned = of.banned;
  return input;
}

inline Outcome OnCpu(const Case& of) {
  const auto vocab = static_cast<int32_t>(of.logits.size());
  SamplerScratch scratch(vocab);
  Outcome outcome;
  outcome.top.resize(TopCount(of.params, vocab));
  const auto top = absl::MakeSpan(outcome.top);
  outcome.result = of.scored >= 0
                       ? ScoreToken(of.logits, of.scored, &scratch, top)
                       : SampleToken(InputOf(of), &scratch, top);
  return outcome;
}

// Arrays of a launch, of exact size; outputs of one vocabulary.
class Launch {
 public:
  explicit Launch(int32_t vocab) : vocab_(vocab) {}

  void Add(const Case& of) {
    CudaOutput output;
    const SamplingParams& params = of.params;
    output.kind =
        of.scored >= 0 ? CudaOutputKind::kScore : CudaOutputKind::kSample;
    output.token = of.scored >= 0 ? of.scored : 0;
    output.seed = params.seed;
    output.history = static_cast<int64_t>(histories_.size());
    output.history_length = static_cast<int32_t>(of.history.size());
    Append(of.history, &histories_);
    output.prompt_length = of.prompt_length;
    output.tail = static_cast<int32_t>(tokens_.size());
    Append(of.drafts, &tokens_);
    if (of.last_token >= 0) {
      if (of.last_token_on_device) last_tokens_.push_back(of.last_token);
      tokens_.push_back(of.last_token_on_device
                            ? -static_cast<int32_t>(last_tokens_.size())
                            : of.last_token);
    }
    output.tail_length = static_cast<int32_t>(tokens_.size()) - output.tail;
    if (!of.mask.empty()) {
      output.token_mask = static_cast<int64_t>(masks_.size());
      Append(of.mask, &masks_);
    }
    output.bias_begin = static_cast<int32_t>(biases_.size());
    for (const LogitBias& bias : params.logit_bias) {
      biases_.push_back({bias.token, bias.bias});
    }
    output.bias_end = static_cast<int32_t>(biases_.size());
    output.banned_begin = static_cast<int32_t>(banned_.size());
    Append(of.banned, &banned_);
    output.banned_end = static_cast<int32_t>(banned_.size());
    output.position = of.position;
    output.choice = params.choice + of.choice;
    output.temperature = params.temperature;
    output.top_k = params.top_k;
    output.top_p = params.top_p;
    output.min_p = params.min_p;
    output.typical_p = params.typical_p;
    output.repetition_penalty = params.repetition_penalty;
    output.presence_penalty = params.presence_penalty;
    output.frequency_penalty = params.frequency_penalty;
    output.top_logprobs = params.top_logprobs;
    output.top_begin = top_count_;
    top_count_ += TopCount(params, vocab_);
    if (!PenalisesTokens(output)) {  // then nobody reads them
      output.history = int64_t{1} << 40;
      output.tail = 1 << 30;
    }
    output.workspace_row = AdjustsLogits(output) ? workspace_rows_++ : 1 << 30;
    outputs_.push_back(output);
    logits_.push_back(of.logits);
  }
  void AddPadding() {
    outputs_.push_back({});
    logits_.emplace_back();
  }

  std::vector<Outcome> Run(const std::string& error = "") {
    const int64_t stride = (vocab_ + 3) / 4 * 4 + 8;
    const auto count = static_cast<int32_t>(outputs_.size());
    GuardedArray<float> logits((count - 1) * stride + vocab_);
    for (int32_t i = 0; i < count; ++i) {
      std::copy(logits_[i].begin(), logits_[i].end(),
                logits.data() + i * stride);
    }
    GuardedArray<float> workspace(
        workspace_rows_ == 0 ? 0 : (workspace_rows_ - 1) * stride + vocab_);
    GuardedArray<CudaOutput> outputs(outputs_);
    GuardedArray<int32_t> histories(histories_), tokens(tokens_);
    GuardedArray<int32_t> last_tokens(last_tokens_), banned(banned_);
    GuardedArray<uint32_t> masks(masks_);
    GuardedArray<CudaLogitBias> biases(biases_);
    GuardedArray<CudaSampled> results(count);
    GuardedArray<CudaTokenLogprob> top(top_count_);
    const absl::Status status = Sample({.logits = logits.data(),
                                        .logits_stride = stride,
                                        .outputs = count,
                                        .vocab = vocab_,
                                        .params = outputs.data(),
                                        .histories = histories.data(),
                                        .tokens = tokens.data(),
                                        .last_tokens = last_tokens.data(),
                                        .biases = biases.data(),
                                        .banned = banned.data(),
                                        .token_masks = masks.data(),
                                        .workspace = workspace.data(),
                                        .workspace_stride = stride,
                                        .results = results.data(),
                                        .top = top.data()});
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(error));
    EXPECT_EQ(status.ok(), error.empty()) << status;
    std::vector<Outcome> outcomes(count);
    for (int32_t i = 0; i < count; ++i) {
      SampleResult& result = outcomes[i].result;
      result.token = results[i].token;
      result.logprob = results[i].logprob;
      result.numeric_fault = results[i].numeric_fault != 0;
      // Blocks run one after the other here, at the same time on a device.
      if (outputs_[i].kind == CudaOutputKind::kSample && error.empty() &&
          AdjustsLogits(outputs_[i]) && !result.numeric_fault) {
        const float last =
            workspace[outputs_[i].workspace_row * stride + vocab_ - 1];
        EXPECT_FALSE(std::isnan(last)) << "not in its own row";
      }
      const int32_t begin = outputs_[i].top_begin;
      for (int32_t j = 0; j < std::min(outputs_[i].top_logprobs, vocab_); ++j) {
        outcomes[i].top.push_back(
            {top[begin + j].token, top[begin + j].logprob});
      }
    }
    return outcomes;
  }

 private:
  template <typename T>
  static void Append(const std::vector<T>& from, std::vector<T>* to) {
    to->insert(to->end(), from.begin(), from.end());
  }

  const int32_t vocab_;
  std::vector<std::vector<float>> logits_;
  std::vector<CudaOutput> outputs_;
  std::vector<int32_t> histories_, tokens_, last_tokens_, banned_;
  std::vector<uint32_t> masks_;
  std::vector<CudaLogitBias> biases_;
  int32_t top_count_ = 0;
  int32_t workspace_rows_ = 0;
};

inline Outcome OnDevice(const Case& of) {
  Launch launch(static_cast<int32_t>(of.logits.size()));
  launch.Add(of);
  return launch.Run()[0];
}

// Whether the random number falls on `token`, within kBorder, with thresholds
// that differ by less.
inline bool IsExplained(Case of, int32_t token) {
  SamplingParams& params = of.params;
  const SamplingParams original = params;
  params.top_logprobs = -1;
  SamplerScratch scratch(static_cast<int32_t>(of.logits.size()));
  const auto bits =
      Philox4x32({static_cast<uint32_t>(of.position),
                  static_cast<uint32_t>(params.choice + of.choice), 0, 0},
                 {static_cast<uint32_t>(params.seed),
                  static_cast<uint32_t>(params.seed >> 32)});
  const double noise = bits[0] * 0x1p-32;
  const auto shifted = [](float share, int by) {
    const auto moved = static_cast<float>(share + by * kBorder);
    return share < 1 && share > 0 ? std::clamp(moved, 1e-9f, 1.0f) : share;
  };
  for (int i = 0; i < 27; ++i) {
    params.top_p = shifted(original.top_p, i % 3 - 1);
    params.typical_p = shifted(original.typical_p, i / 3 % 3 - 1);
    params.min_p = shifted(original.min_p, i / 9 - 1);
    SampleToken(InputOf(of), &scratch, {});
    double total = 0, before = 0;
    for (const float weight : scratch.weights()) total += weight;
    for (int32_t t = 0; t < token; ++t) before += scratch.weights()[t];
    const double weight = scratch.weights()[token];
    if (weight > 0 && noise * total >= before - kBorder * total &&
        noise * total <= before + weight + kBorder * total) {
      return true;
    }
  }
  return false;
}

// How many tokens differ; nothing else may.
inline int32_t CountDifferences(const std::vector<Case>& cases,
                                const std::vector<Outcome>& outcomes) {
  int32_t differences = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& of = cases[i];
    const Outcome expected = OnCpu(of);
    const Outcome& actual = outcomes[i];
    const int32_t token = actual.result.token;
    EXPECT_EQ(actual.result.numeric_fault, expected.result.numeric_fault) << i;
    if (expected.result.numeric_fault) {
      EXPECT_EQ(token, 0);
      EXPECT_EQ(actual.result.logprob, 0);
    } else if (token != expected.result.token) {
      ++differences;
      EXPECT_GT(of.params.temperature, 0) << i;
      EXPECT_TRUE(IsExplained(of, token))
          << i << ": " << token << " for " << expected.result.token;
    } else {
      EXPECT_NEAR(actual.result.logprob, expected.result.logprob, 3e-6) << i;
    }
    EXPECT_EQ(actual.top.size(), expected.top.size());
    for (size_t j = 0; j < expected.top.size(); ++j) {
      EXPECT_EQ(actual.top[j].token, expected.top[j].token) << i << ", " << j;
      EXPECT_NEAR(actual.top[j].logprob, expected.top[j].logprob, 3e-6)
          << i << ", " << j;
    }
  }
  return differences;
}

inline void ExpectLikeCpu(const std::vector<Case>& cases) {
  Launch launch(static_cast<int32_t>(cases[0].logits.size()));
  for (const Case& of : cases) launch.Add(of);
  EXPECT_EQ(CountDifferences(cases, launch.Run()), 0);
}

inline std::vector<float> RandomLogits(int32_t vocab, std::mt19937_64& random) {
  const float deviation = Uniform(random, 0.1f, 6);
  // Ties: of a few values, or none.
  const float step = Between(random, 0, 2) == 0 ? Uniform(random, 0.2f, 3) : 0;
  std::normal_distribution<float> normal(Uniform(random, -20, 20), deviation);
  std::vector<float> logits(vocab);
  for (float& logit : logits) {
    logit = normal(random);
    if (step > 0) logit = std::round(logit / step) * step;
  }
  return logits;
}

// Each option is there in one case of `rarity`.
inline Case RandomCase(int32_t vocab, int32_t rarity, std::mt19937_64& random) {
  const auto chance = [&] { return Between(random, 1, rarity) == 1; };
  const auto token = [&] { return Between(random, 0, vocab - 1); };
  const auto tokens = [&](int32_t most) {
    std::vector<int32_t> result(Between(random, 0, most));
    for (int32_t& value : result) value = token();
    return result;
  };
  Case of;
  of.logits = RandomLogits(vocab, random);
  of.position = Between(random, 0, 1 << 20);
  of.choice = Between(random, 0, 3);
  SamplingParams& params = of.params;
  params.seed = random();
  params.choice = Between(random, 0, 2);
  params.temperature =
      Between(random, 0, 4) == 0 ? 0 : Uniform(random, 0.1f, 2);
  if (chance()) params.top_k = Between(random, 1, vocab + 3);
  if (chance()) params.top_k = Between(random, 1, 40);
  if (chance()) params.top_p = Uniform(random, 0.01f, 1);
  if (chance()) params.min_p = Uniform(random, 0, 0.3f);
  if (chance()) params.typical_p = Uniform(random, 0.05f, 1);
  if (chance()) params.top_logprobs = Between(random, 0, kMaxSampleTop);
  if (chance()) params.repetition_penalty = Uniform(random, 0.5f, 2);
  if (chance()) params.presence_penalty = Uniform(random, -2, 2);
  if (chance()) params.frequency_penalty = Uniform(random, -2, 2);
  if (chance()) {
    of.history = tokens(300);
    of.prompt_length = Between(random, 0, 200);
    of.drafts = tokens(3);
    of.last_token = token();
    of.last_token_on_device = Between(random, 0, 1) == 1;
    // Some tokens often.
    for (int32_t& value : of.history) value = value % 7 < 3 ? value : value % 5;
    for (int32_t& value : of.history) value = std::min(value, vocab - 1);
  }
  if (chance()) {
    std::vector<int32_t> of_bias = tokens(20);
    std::sort(of_bias.begin(), of_bias.end());
    of_bias.erase(std::unique(of_bias.begin(), of_bias.end()), of_bias.end());
    for (const int32_t value : of_bias) {
      params.logit_bias.push_back({value, Between(random, 0, 3) == 0
                                              ? -kInfinity
                                              : Uniform(random, -5, 5)});
    }
  }
  if (chance()) of.banned = tokens(6);
  if (chance()) {
    of.mask.assign((vocab + 31) / 32, 0);
    for (uint32_t& word : of.mask) word = static_cast<uint32_t>(random());
  }
  if (Between(random, 0, 9) == 0) of.scored = token();
  if (Between(random, 0, 40) == 0) {
    const float bad[] = {kInfinity, -kInfinity, std::nanf("")};
    of.logits[token()] = bad[Between(random, 0, 2)];
  }
  return of;
}

}  // namespace descant::kernels::cuda_emulated

#endif  // DESCANT_TESTS_RUNTIME_KERNELS_CUDA_SAMPLING_CASES_H_
