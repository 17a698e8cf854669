// Sampling on the device: faults, ties, limits, and one option at a time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "tests/runtime/kernels/cuda/sampling_cases.h"

namespace descant::kernels::cuda_emulated {
namespace {

// Draws that fall everywhere, one filter at a time.
TEST(SamplingTest, EveryFilterAlone) {
  std::mt19937_64 random(11);
  std::vector<Case> cases;
  for (int32_t i = 0; i < 60; ++i) {
    Case of;
    of.logits = RandomLogits(777, random);
    of.position = i;
    SamplingParams& params = of.params;
    params.seed = random();
    params.temperature = Uniform(random, 0.5f, 3);
    switch (i % 6) {
      case 0:
        params.top_k = Between(random, 1, 776);
        break;
      case 1:
        params.top_p = Uniform(random, 0.1f, 1);
        break;
      case 2:
        params.min_p = Uniform(random, 0, 0.1f);
        break;
      case 3:
        params.typical_p = Uniform(random, 0.1f, 1);
        break;
      case 4:
        params.top_k = Between(random, 1, 300);
        params.top_p = Uniform(random, 0.5f, 1);
        break;
      default:
        break;
    }
    cases.push_back(of);
  }
  ExpectLikeCpu(cases);
}

// Ties at the border of a filter: the lowest tokens are kept.
TEST(SamplingTest, TiesGoToTheLowestToken) {
  constexpr int32_t kVocab = 1000;
  std::vector<Case> cases;
  for (int32_t i = 0; i < 24; ++i) {
    Case of;
    of.logits.assign(kVocab, 1.5f);
    for (int32_t t = 0; t < kVocab; t += 3) of.logits[t] = -0.0f;
    for (int32_t t = 1; t < kVocab; t += 3) of.logits[t] = 0.0f;
    of.position = i;
    of.params.seed = 5;
    of.params.top_logprobs = kMaxSampleTop;
    if (i % 4 == 0) of.params.temperature = 0;
    if (i % 4 == 1) of.params.top_k = i;
    if (i % 4 == 1 && i > 12) of.params.top_p = 0.5f;
    if (i % 4 == 2) of.params.top_p = 0.04f * static_cast<float>(i);
    if (i % 4 == 3) of.params.top_k = 340 + 20 * i;
    cases.push_back(of);
  }
  ExpectLikeCpu(cases);
  EXPECT_EQ(OnDevice(cases[0]).result.token, 2);
}

// Half of 64 tokens is 32 of them.
TEST(SamplingTest, AShareThatIsReachedExactly) {
  std::vector<Case> cases;
  for (int32_t i = 0; i < 12; ++i) {
    Case of;
    of.logits.assign(64, 2);
    of.params.seed = 3;
    of.params.top_p = 0.5f;
    if (i >= 8) of.params.top_k = 2;
    of.position = i;
    cases.push_back(of);
  }
  // Numbers that fall on the last token that is kept.
  const auto noise = [](const Case& of) {
    return Philox4x32({static_cast<uint32_t>(of.position), 0, 0, 0}, {3, 0})[0];
  };
  while (noise(cases[0]) < 0xfd000000u) ++cases[0].position;
  while (noise(cases[8]) < 0xc0000000u) ++cases[8].position;
  EXPECT_EQ(OnCpu(cases[0]).result.token, 31);
  EXPECT_EQ(OnCpu(cases[8]).result.token, 0);
  ExpectLikeCpu(cases);
}

// Weights that are just min_p are kept: those of the likeliest tokens.
TEST(SamplingTest, TheLargestMinP) {
  std::vector<Case> cases(8);
  for (size_t i = 0; i < cases.size(); ++i) {
    cases[i].logits = {1, 4, 2, 4, 3.9999f};
    cases[i].params.min_p = 1;
    cases[i].params.seed = i;
  }
  ExpectLikeCpu(cases);
}

// Differences that no float has, temperatures whose reciprocal none has, and
// logits that are what a banned one becomes.
TEST(SamplingTest, FromEndToEndOfFloats) {
  constexpr float kMost = std::numeric_limits<float>::max();
  std::vector<Case> cases(6);
  for (size_t i = 0; i < cases.size(); ++i) {
    cases[i].logits = {3e38f, -3e38f, 1, 3e38f, kMost / 2, -kMost};
    cases[i].params.seed = i;
  }
  cases[0].params.typical_p = 0.7f;
  cases[1].params.temperature = 1e-40f;
  cases[2].params.top_logprobs = 4;
  cases[3].logits.assign(6, -kMost);
  cases[4].logits.assign(6, -kMost);
  cases[4].params.temperature = 0;
  cases[4].mask = {0};
  cases[5].params.typical_p = 0.9f;
  cases[5].params.top_p = 0.9f;
  ExpectLikeCpu(cases);
}

// They have no part in the expected surprise.
TEST(SamplingTest, TypicalSamplingLeavesBannedTokensOut) {
  std::mt19937_64 random(41);
  std::vector<Case> cases;
  for (int32_t i = 0; i < 8; ++i) {
    Case of;
    for (int32_t token = 0; token < 64; ++token) {
      of.logits.push_back(static_cast<float>(random() % 1000) / 200);
    }
    of.params.temperature = 0.5f;
    of.params.typical_p = 0.4f;
    of.params.seed = random();
    of.banned = {3 + i};
    cases.push_back(of);
  }
  ExpectLikeCpu(cases);
}

TEST(SamplingTest, NegativeZeroIsZero) {
  Case of;
  of.logits = {-1, -0.0f, 0.0f, -2, 0.0f};
  of.params.temperature = 0;
  EXPECT_EQ(OnDevice(of).result.token, 1);
  std::swap(of.logits[1], of.logits[2]);
  EXPECT_EQ(OnDevice(of).result.token, 1);
}

TEST(SamplingTest, AnyLogitThatIsNotFiniteIsAFault) {
  for (const float bad :
       {kInfinity, -kInfinity, std::nanf(""), -std::nanf("")}) {
    std::vector<Case> cases;
    for (const int32_t at : {0, 7, 511, 2047, 2048, 4096, 4100}) {
      Case of;
      std::mt19937_64 random(3);
      of.logits = RandomLogits(4101, random);
      of.logits[at] = bad;
      of.params.top_logprobs = 3;
      of.params.temperature = at % 2 == 0 ? 0.0f : 1.0f;
      if (at > 2000) of.mask.assign(129, 1);  // those at fault aren't allowed
      if (at == 511) of.scored = 12;
      cases.push_back(of);
      EXPECT_TRUE(OnCpu(of).result.numeric_fault);
    }
    ExpectLikeCpu(cases);
  }
}

TEST(SamplingTest, NothingAllowedIsAFault) {
  std::mt19937_64 random(3);
  std::vector<Case> cases(6);
  for (Case& of : cases) {
    of.logits = RandomLogits(40, random);
    of.params.top_logprobs = 2;
  }
  cases[0].mask = {0, 0};
  for (int32_t t = 0; t < 40; ++t) cases[1].banned.push_back(t);
  for (int32_t t = 0; t < 40; ++t) {
    cases[2].params.logit_bias.push_back({t, -kInfinity});
  }
  cases[3].mask = {1u << 5, 0};  // all that is allowed is banned
  cases[3].banned = {5};
  // Adjusted logits that are not finite.
  cases[4].logits[9] = 3e38f;
  cases[4].params.logit_bias = {{9, 3e38f}};
  cases[5].logits[9] = -3e38f;
  cases[5].params.repetition_penalty = 2;
  cases[5].history = {9};
  cases[5].prompt_length = 1;
  for (const Case& of : cases) EXPECT_TRUE(OnCpu(of).result.numeric_fault);
  ExpectLikeCpu(cases);
}

// Contexts longer than the block, each token often, in prompt and answer.
TEST(SamplingTest, PenaltiesOfLongHistories) {
  std::mt19937_64 random(17);
  std::vector<Case> cases;
  for (int32_t i = 0; i < 16; ++i) {
    Case of;
    of.logits = RandomLogits(300, random);
    of.position = i;
    SamplingParams& params = of.params;
    params.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    params.seed = random();
    if (i % 3 != 0) params.repetition_penalty = 1.3f;
    if (i % 3 != 1) params.frequency_penalty = 0.01f;
    if (i % 5 == 0) params.presence_penalty = -1;
    for (int32_t t = 0; t < 40; t += 2) params.logit_bias.push_back({t, 4});
    of.history.resize(Between(random, 0, 8192));
    for (int32_t& token : of.history) token = Between(random, 0, 99);
    of.prompt_length = Between(random, 0, 8192);
    if (i % 4 != 0) {
      of.drafts.resize(1200);
      for (int32_t& token : of.drafts) token = Between(random, 50, 299);
    }
    of.last_token = Between(random, 0, 299);
    of.last_token_on_device = i % 4 < 2;
    cases.push_back(of);
  }
  ExpectLikeCpu(cases);
}

// The answer's first token is the vocabulary's first.
TEST(SamplingTest, ThePenaltyOfAnAnswerOfOneToken) {
  Case of;
  of.logits = {2, 1.5f, 1, 0};
  of.params.temperature = 0;
  of.params.frequency_penalty = 1;
  of.history = {3, 2};
  of.prompt_length = 2;
  of.last_token = 0;
  EXPECT_EQ(OnCpu(of).result.token, 1);
  ExpectLikeCpu({of});
}

// Behind the row there is no memory, and there are threads without a second
// quad, with it, and the one between them.
TEST(SamplingTest, NothingIsReadBehindTheRow) {
  std::mt19937_64 random(43);
  Case of;
  of.logits = RandomLogits(2048 + 400, random);
  of.params.temperature = 0;
  ExpectLikeCpu({of});
}

// As many tokens as there may be, all as likely: the sum is the largest.
TEST(SamplingTest, TheLargestVocabulary) {
  std::vector<Case> cases(3);
  for (Case& of : cases) of.logits.assign(kMaxSampleVocab, 2.5f);
  cases[0].params.seed = 77;
  cases[1].params.seed = 78;
  cases[1].params.top_p = 0.9f;
  cases[2].params.temperature = 0;
  cases[2].params.top_logprobs = 2;
  cases[2].logits[kMaxSampleVocab - 1] = 3;
  ExpectLikeCpu(cases);

  Case beyond;
  beyond.logits.assign(8, 1);
  Launch launch(kMaxSampleVocab + 1);
  launch.Add(beyond);
  launch.Run("a vocabulary of 262145");
}

TEST(SamplingTest, AnOutputDependsOnItsRowAlone) {
  std::mt19937_64 random(29);
  std::vector<Case> cases;
  Launch together(901);
  for (int32_t i = 0; i < 12; ++i) {
    cases.push_back(RandomCase(901, 2, random));
    together.Add(cases.back());
  }
  const std::vector<Outcome> outcomes = together.Run();
  for (size_t i = 0; i < cases.size(); ++i) {
    cuda_emulation::SetSeed(100 + i);
    const Outcome alone = OnDevice(cases[i]);
    EXPECT_EQ(alone.result.token, outcomes[i].result.token);
    EXPECT_EQ(alone.result.logprob, outcomes[i].result.logprob);
    EXPECT_EQ(alone.result.numeric_fault, outcomes[i].result.numeric_fault);
    for (size_t j = 0; j < alone.top.size(); ++j) {
      EXPECT_EQ(alone.top[j].token, outcomes[i].top[j].token);
      EXPECT_EQ(alone.top[j].logprob, outcomes[i].top[j].logprob);
    }
  }
}

TEST(SamplingTest, PaddingIsLeftAlone) {
  std::mt19937_64 random(31);
  const Case of = RandomCase(64, 3, random);
  Launch launch(64);
  launch.AddPadding();
  launch.Add(of);
  launch.AddPadding();
  const std::vector<Outcome> outcomes = launch.Run();
  EXPECT_EQ(CountDifferences({of}, {outcomes[1]}), 0);
  for (const size_t i : {0, 2}) EXPECT_EQ(outcomes[i].result.token, -1);
}

TEST(SamplingTest, NothingToDo) { EXPECT_TRUE(Sample({}).ok()); }

TEST(SamplingTest, NoVocabulary) {
  EXPECT_FALSE(Sample({.outputs = 1, .vocab = 0}).ok());
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
