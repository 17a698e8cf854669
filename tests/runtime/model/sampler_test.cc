#include "runtime/model/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "runtime/model/philox.h"
#include "runtime/model/vector_math.h"

namespace descant {
namespace {

constexpr uint64_t kSeed = 20261123;

std::vector<float> RandomLogits(int32_t size, uint64_t seed, float deviation) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

SampleResult Sample(const std::vector<float>& logits,
                    const SamplingParams& params, int32_t position,
                    const uint32_t* mask = nullptr) {
  SamplerScratch scratch(static_cast<int32_t>(logits.size()));
  std::vector<TokenLogprob> top(
      TopCount(params, static_cast<int32_t>(logits.size())));
  return SampleToken({logits, &params, position, mask}, &scratch,
                     absl::MakeSpan(top));
}

std::set<int32_t> TokensSeen(const std::vector<float>& logits,
                             const SamplingParams& params, int draws,
                             const uint32_t* mask = nullptr) {
  std::set<int32_t> seen;
  for (int i = 0; i < draws; ++i) {
    seen.insert(Sample(logits, params, i, mask).token);
  }
  return seen;
}

// Known answers published with Random123 (kat_vectors).
TEST(PhiloxTest, KnownAnswers) {
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(VectorMathTest, ExpMatchesTheLibrary) {
  std::vector<float> x;
  for (float value = 0; value > -86.5f; value -= 0.01371f) x.push_back(value);
  std::vector<float> y(x.size());
  ExpShifted(x, 0, 1, absl::MakeSpan(y));
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(y[i] / expected, 1.0, 3e-7) << x[i];
  }
  EXPECT_EQ(y[0], 1.0f);
  const float far[] = {-88.0f, -1e30f, -3e38f};
  float out[3];
  ExpShifted(far, 0, 1, absl::MakeSpan(out));
  for (const float value : out) EXPECT_EQ(value, 0.0f);
}

TEST(VectorMathTest, ArgMaxAtEverySizeAndPlace) {
  for (const int32_t size : {1, 3, 15, 16, 17, 1023, 1024, 1025, 3001}) {
    const std::vector<float> base = RandomLogits(size, kSeed + size, 1);
    for (int32_t at = 0; at < size; at += 1 + size / 37) {
      std::vector<float> values = base;
      values[at] = 100;
      if (at + 1 < size) values.back() = 100;  // a tie: the lower index wins
      EXPECT_EQ(FindArgMax(values).index, at) << size;
      EXPECT_EQ(FindArgMax(values).value, 100) << size;
    }
  }
  EXPECT_EQ(FindArgMax(std::vector<float>{-5, -3, -4}).index, 1);
}

TEST(SamplerTest, GreedyTakesTheLowestOfTies) {
  SamplingParams params;
  params.temperature = 0;
  std::vector<float> logits = RandomLogits(49152, kSeed, 1);
  logits[40000] = logits[1234] = logits[7777] = 50;
  const SampleResult result = Sample(logits, params, 3);
  EXPECT_EQ(result.token, 1234);
  EXPECT_FALSE(result.numeric_fault);
  EXPECT_EQ(result.logprob, 0);
}

TEST(SamplerTest, AnyNonFiniteLogitIsAFault) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const int32_t at : {0, 5, 1000, 4095, 4096, 4100}) {
      for (const float temperature : {0.0f, 1.0f}) {
        std::vector<float> logits = RandomLogits(4101, kSeed, 1);
        logits[at] = value;
        SamplingParams params;
        params.temperature = temperature;
        params.top_logprobs = 2;
        const SampleResult result = Sample(logits, params, 0);
        EXPECT_TRUE(result.numeric_fault) << value << " at " << at;
        EXPECT_EQ(result.token, 0);
      }
    }
  }
}

TEST(SamplerTest, LogprobsAreOfTheUnmodifiedDistribution) {
  const std::vector<float> logits = RandomLogits(1000, kSeed, 3);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  SamplingParams params;
  params.temperature = 0.3f;
  params.top_k = 2;
  params.top_logprobs = 7;
  std::vector<uint32_t> mask(32, 0);
  mask[3] = 0xff;  // only tokens 96..103
  SamplerScratch scratch(1000);
  std::vector<TokenLogprob> top(7);
  const SampleResult result = SampleToken({logits, &params, 5, mask.data()},
                                          &scratch, absl::MakeSpan(top));
  EXPECT_GE(result.token, 96);
  EXPECT_LT(result.token, 104);
  EXPECT_NEAR(result.logprob, logits[result.token] - std::log(sum), 2e-6);
  std::vector<int32_t> order(1000);
  for (int32_t i = 0; i < 1000; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(top[i].token, order[i]);
    EXPECT_NEAR(top[i].logprob, logits[order[i]] - std::log(sum), 2e-6);
  }
}

TEST(SamplerTest, TopCountIsClampedToTheVocabulary) {
  SamplingParams params;
  EXPECT_EQ(TopCount(params, 10), 0);
  params.top_logprobs = 0;
  EXPECT_EQ(TopCount(params, 10), 0);
  params.top_logprobs = 20;
  EXPECT_EQ(TopCount(params, 10), 10);
}

// Once wrote before the candidates' first: freeing them would abort here.
TEST(SamplerTest, ZeroTopLogprobsTouchNoCandidate) {
  SamplingParams params;
  params.temperature = 0;
  params.top_logprobs = 0;
  std::vector<float> logits = RandomLogits(50000, kSeed, 1);
  for (float& logit : logits) logit = 1 + std::abs(logit);
  EXPECT_FALSE(Sample(logits, params, 3).numeric_fault);
}

TEST(SamplerTest, ZeroTopLogprobsStillGivesTheChosenOnes) {
  SamplingParams params;
  params.temperature = 0;
  params.top_logprobs = 0;
  const SampleResult result = Sample({0.0f, 0.0f}, params, 0);
  EXPECT_NEAR(result.logprob, std::log(0.5), 1e-6);
}

// Upper 1e-6 quantile of chi-square, by Wilson and Hilferty.
double ChiSquareLimit(double degrees) {
  const double a = 2.0 / (9.0 * degrees);
  const double root = 1 - a + 4.753 * std::sqrt(a);
  return degrees * root * root * root;
}

void ExpectDistribution(const std::vector<float>& logits,
                        const SamplingParams& params,
                        const std::vector<double>& expected) {
  constexpr int kDraws = 40000;
  std::vector<int> counts(logits.size());
  SamplerScratch scratch(static_cast<int32_t>(logits.size()));
  for (int i = 0; i < kDraws; ++i) {
    ++counts[SampleToken({logits, &params, i, nullptr}, &scratch, {}).token];
  }
  double chi_square = 0;
  int degrees = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double mean = expected[i] * kDraws;
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    chi_square += (counts[i] - mean) * (counts[i] - mean) / mean;
    ++degrees;
  }
  std::printf("seed %llu: chi-square %.1f, %d degrees of freedom\n",
              static_cast<unsigned long long>(params.seed), chi_square,
              degrees);
  if (degrees > 0) {
    EXPECT_LT(chi_square, ChiSquareLimit(degrees));
  }
}

std::vector<double> Softmax(const std::vector<float>& logits,
                            double temperature) {
  std::vector<double> result;
  double sum = 0;
  for (const float logit : logits) {
    result.push_back(std::exp(logit / temperature));
    sum += result.back();
  }
  for (double& value : result) value /= sum;
  return result;
}

TEST(SamplerTest, DrawsTheSoftmaxAtAnyTemperature) {
  const std::vector<float> logits = RandomLogits(50, kSeed, 1);
  for (const float temperature : {0.7f, 1.0f, 1.9f}) {
    SamplingParams params;
    params.seed = kSeed;
    params.temperature = temperature;
    ExpectDistribution(logits, params, Softmax(logits, temperature));
  }
}

TEST(SamplerTest, DrawsTheFilteredDistribution) {
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f, 1.5f, -1.0f, 0.5f};
  // By probability: 1, 3, 2, 5, 0, 4.
  const std::vector<double> full = Softmax(logits, 1);
  const auto keep = [&](const std::vector<int>& kept) {
    std::vector<double> result(full.size());
    double sum = 0;
    for (const int i : kept) sum += full[i];
    for (const int i : kept) result[i] = full[i] / sum;
    return result;
  };
  SamplingParams params;
  params.seed = kSeed + 1;
  params.top_k = 3;
  ExpectDistribution(logits, params, keep({1, 3, 2}));
  params.top_k = 0;
  params.top_p = static_cast<float>(full[1] + full[3] + 0.5 * full[2]);
  ExpectDistribution(logits, params, keep({1, 3, 2}));
  params.top_p = 1;
  params.min_p = static_cast<float>(full[5] / full[1] * 0.99);
  ExpectDistribution(logits, params, keep({1, 3, 2, 5}));
  // top-p is of what top-k left.
  params.min_p = 0;
  params.top_k = 2;
  params.top_p = static_cast<float>(full[1] / (full[1] + full[3]) * 0.99);
  ExpectDistribution(logits, params, keep({1}));
}

TEST(SamplerTest, Borders) {
  const std::vector<float> logits = RandomLogits(2000, kSeed, 2);
  const int32_t best = FindArgMax(logits).index;
  SamplingParams params;
  params.top_k = 1;
  EXPECT_EQ(TokensSeen(logits, params, 200), std::set<int32_t>{best});
  params.top_k = 0;
  params.top_p = 1e-9f;
  EXPECT_EQ(TokensSeen(logits, params, 200), std::set<int32_t>{best});
  params.top_p = 1;
  params.min_p = 1;
  EXPECT_EQ(TokensSeen(logits, params, 200), std::set<int32_t>{best});
  params.min_p = 0;
  params.temperature = 1e-40f;
  EXPECT_EQ(TokensSeen(logits, params, 200), std::set<int32_t>{best});
  params.temperature = 1;
  params.top_p = 0.999999f;
  EXPECT_GT(TokensSeen(logits, params, 500).size(), 100u);
}

TEST(SamplerTest, TopKOfTiesKeepsTheLowestIds) {
  const std::vector<float> logits(40, 1.0f);
  SamplingParams params;
  params.top_k = 3;
  EXPECT_EQ(TokensSeen(logits, params, 300), (std::set<int32_t>{0, 1, 2}));
  params.top_k = 0;
  params.top_p = 0.124f;  // 5 of 40 are 0.125
  EXPECT_EQ(TokensSeen(logits, params, 300),
            (std::set<int32_t>{0, 1, 2, 3, 4}));
}

// Against the definition, written with a sort.
TEST(SamplerTest, TopPKeepsTheShortestPrefixThatReachesIt) {
  for (const float deviation : {0.01f, 1.0f, 5.0f}) {
    const std::vector<float> logits = RandomLogits(800, kSeed, deviation);
    const std::vector<double> full = Softmax(logits, 1);
    std::vector<int32_t> order(logits.size());
    for (int32_t i = 0; i < 800; ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    SamplingParams params;
    for (const float p : {0.05f, 0.3f, 0.7f, 0.95f}) {
      params.top_p = p;
      std::set<int32_t> expected;
      double sum = 0;
      for (const int32_t token : order) {
        expected.insert(token);
        if ((sum += full[token]) >= p) break;
      }
      const std::set<int32_t> seen = TokensSeen(logits, params, 3000);
      EXPECT_TRUE(std::includes(expected.begin(), expected.end(), seen.begin(),
                                seen.end()))
          << deviation << " " << p;
      // Flat distributions: every kept token is likely to be drawn.
      if (expected.size() < 60) {
        EXPECT_GE(seen.size() * 10, expected.size() * 8) << deviation;
      }
    }
  }
}

TEST(SamplerTest, FiltersThatKeepEverythingChangeNothing) {
  const std::vector<float> logits = RandomLogits(3000, kSeed, 1);
  SamplingParams plain;
  plain.seed = kSeed;
  SamplingParams filtered = plain;
  filtered.top_k = 2999;
  filtered.top_p = 1;
  filtered.min_p = 1e-9f;
  for (int position = 0; position < 300; ++position) {
    EXPECT_EQ(Sample(logits, plain, position).token,
              Sample(logits, filtered, position).token);
  }
}

TEST(SamplerTest, NoiseDependsOnSeedChoiceAndPositionOnly) {
  const std::vector<float> logits(1000, 0.0f);
  SamplingParams params;
  params.seed = kSeed;
  std::set<int32_t> positions;
  std::set<int32_t> choices;
  std::set<int32_t> seeds;
  for (int i = 0; i < 50; ++i) {
    positions.insert(Sample(logits, params, i).token);
    EXPECT_EQ(Sample(logits, params, i).token, Sample(logits, params, i).token);
    SamplingParams other = params;
    other.choice = i;
    choices.insert(Sample(logits, other, 7).token);
    other = params;
    other.seed = (uint64_t{1} << 32) * i;  // the upper half counts too
    seeds.insert(Sample(logits, other, 7).token);
  }
  EXPECT_GT(positions.size(), 40u);
  EXPECT_GT(choices.size(), 40u);
  EXPECT_GT(seeds.size(), 40u);
}

TEST(SamplerTest, MasksAreObeyed) {
  std::vector<float> logits = RandomLogits(100, kSeed, 1);
  logits[50] = 90;  // far above every allowed token
  std::vector<uint32_t> mask(4, 0);
  const std::set<int32_t> allowed = {1, 33, 64, 99};
  for (const int32_t token : allowed) mask[token / 32] |= 1u << (token % 32);
  SamplingParams params;
  EXPECT_EQ(TokensSeen(logits, params, 500, mask.data()), allowed);
  params.top_p = 0.9999f;
  EXPECT_EQ(TokensSeen(logits, params, 500, mask.data()), allowed);
  params.top_k = 50;
  EXPECT_EQ(TokensSeen(logits, params, 500, mask.data()), allowed);
  params.temperature = 0;
  int32_t best = 1;
  for (const int32_t token : allowed) {
    if (logits[token] > logits[best]) best = token;
  }
  EXPECT_EQ(Sample(logits, params, 0, mask.data()).token, best);
  const std::vector<uint32_t> nothing(4, 0);
  EXPECT_TRUE(Sample(logits, params, 0, nothing.data()).numeric_fault);
}

TEST(SamplerTest, AStepOutputIsLaidOutAndAFaultStaysInItsSequence) {
  SamplingParams greedy;
  greedy.temperature = 0;
  SamplingParams detailed = greedy;
  detailed.top_logprobs = 3;
  Batch batch;
  batch.step = 9;
  batch.tokens = {1, 2, 3, 4};
  batch.positions = {0, 1, 5, 6};
  batch.output_rows = {2, 3};
  batch.sequences.resize(3);
  for (int i = 0; i < 3; ++i) {
    batch.sequences[i].id = 10 + i;
    batch.sequences[i].state_slot = 2 - i;
    batch.sequences[i].sampling = i == 2 ? &detailed : &greedy;
  }
  batch.sequences[1].output_end = 1;
  batch.sequences[2].output_begin = 1;
  batch.sequences[2].output_end = 2;
  StepOutput output;
  LayOutStepOutput(batch, 8, &output);
  SamplerScratch scratch(8);
  const std::vector<float> broken(8, std::nanf(""));
  const std::vector<float> sound = {0, 1, 2, 3, 4, 3, 2, 1};
  SampleOutput(batch, 1, 0, 3, broken, &scratch, &output);
  SampleOutput(batch, 2, 1, 4, sound, &scratch, &output);
  EXPECT_EQ(output.step, 9u);
  ASSERT_EQ(output.sequences.size(), 3u);
  EXPECT_EQ(output.sequences[0].begin, output.sequences[0].end);
  EXPECT_FALSE(output.sequences[0].numeric_fault);
  EXPECT_TRUE(output.sequences[1].numeric_fault);
  EXPECT_FALSE(output.sequences[2].numeric_fault);
  EXPECT_EQ(output.sequences[2].id, 12u);
  EXPECT_EQ(output.sequences[2].state_slot, 0);
  const SampledToken& sampled = output.sampled[1];
  EXPECT_EQ(sampled.token, 4);
  ASSERT_EQ(sampled.top_end - sampled.top_begin, 3);
  EXPECT_EQ(output.top[sampled.top_begin].token, 4);
  EXPECT_EQ(output.top[sampled.top_begin + 1].token, 3);
  EXPECT_EQ(output.top[sampled.top_begin].logprob, sampled.logprob);
}

// Prints; timing is not asserted on a shared machine.
TEST(SamplerTest, PrintsItsSpeed) {
  const std::vector<float> logits = RandomLogits(49152, kSeed, 3);
  SamplerScratch scratch(49152);
  const auto time = [&](const char* name, const SamplingParams& params) {
    std::vector<TokenLogprob> top(TopCount(params, 49152));
    double best = 1e9;
    for (int i = 0; i < 20; ++i) {
      const auto start = std::chrono::steady_clock::now();
      SampleToken({logits, &params, i, nullptr}, &scratch, absl::MakeSpan(top));
      best = std::min(best, std::chrono::duration<double, std::micro>(
                                std::chrono::steady_clock::now() - start)
                                .count());
    }
    std::printf("%s: %.1f us\n", name, best);
  };
  SamplingParams params;
  params.temperature = 0;
  time("greedy", params);
  params.top_logprobs = 5;
  time("greedy, 5 log-probabilities", params);
  params.top_logprobs = -1;
  params.temperature = 1;
  time("temperature", params);
  params.top_p = 0.95f;
  time("top-p 0.95", params);
  params.top_k = 50;
  time("top-k 50, top-p 0.95", params);
}

}  // namespace
}  // namespace descant
