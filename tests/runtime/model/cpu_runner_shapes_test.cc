// The CPU runner at the layer sizes of published models of every family (head
// of 256, one KV head, 32,000 columns and more): random weights, few layers,
// against the fp32 reference runner, and mixed against alone bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/cpu_runner_fixture.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant {
namespace {

constexpr int32_t kVocab = 2000;
constexpr int32_t kPrompt = 150;
constexpr int32_t kTokens = 3;

class CpuRunnerShapesTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool large = GetParam() == "mistral-7b" || GetParam() == "phi3-mini";
    ModelConfig config = *SyntheticConfig(GetParam(), large ? 1 : 2);
    config.vocab_size = kVocab;
    // Both kinds of layer, and windows that end within the prompts.
    if (!config.windows.empty()) config.windows[0] = 70;
    if (GetParam() == "gemma3-1b") config.windows[1] = 0;
    model_ = MakeSyntheticModel(config, 7);
    options_.limits = DriverLimits(3, kPrompt + kTokens, 2);
    options_.threads = 2;
    adapters_ = {MakeSyntheticAdapter(model_->base_shape, 8, false, 1),
                 MakeSyntheticAdapter(model_->base_shape, 40, true, 2)};
    std::mt19937 random(5);
    for (int32_t i = 0; i < 3; ++i) {
      DrivenSequence sequence;
      sequence.prompt.resize(kPrompt - 37 * i);
      for (int32_t& token : sequence.prompt) {
        token = static_cast<int32_t>(random() % kVocab);
      }
      sequence.slot = i - 1;
      sequence.sampling.temperature = 0;
      sequence.sampling.max_tokens = kTokens;
      sequence.sampling.top_logprobs = kVocab;
      sequence.forced.assign(kTokens, 11 * (i + 1));
      sequences_.push_back(sequence);
    }
  }

  std::vector<DrivenResult> DriveAll(Runner* runner) {
    for (int32_t slot = 0; slot < 2; ++slot) {
      EXPECT_TRUE(runner->LoadAdapter(slot, adapters_[slot]).ok());
    }
    const auto results = Drive(runner, sequences_);
    EXPECT_TRUE(results.ok()) << results.status();
    return *results;
  }

  RunnerOptions options_;
  std::shared_ptr<const Model> model_;
  std::vector<std::shared_ptr<const Adapter>> adapters_;
  std::vector<DrivenSequence> sequences_;
};

std::vector<float> ByToken(const std::vector<TokenLogprob>& top) {
  std::vector<float> logprobs(kVocab);
  for (const TokenLogprob& entry : top) logprobs[entry.token] = entry.logprob;
  return logprobs;
}

TEST_P(CpuRunnerShapesTest, AgreesWithTheReferenceRunner) {
  std::vector<DrivenResult> expected;
  {
    const auto reference = MakeReferenceRunner(model_, options_);
    ASSERT_TRUE(reference.ok()) << reference.status();
    expected = DriveAll(reference->get());
  }
  const auto runner = MakeCpuRunner(model_, options_);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto actual = DriveAll(runner->get());
  double squares = 0;
  double spread = 0;
  float worst = 0;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    for (int32_t t = 0; t < kTokens; ++t) {
      const auto want = ByToken(expected[i].top[t]);
      const auto have = ByToken(actual[i].top[t]);
      // Without the likeliest token, which may tower above the rest.
      const auto top = std::max_element(want.begin(), want.end());
      const double mean =
          (std::accumulate(want.begin(), want.end(), 0.0) - *top) /
          (kVocab - 1);
      for (int32_t token = 0; token < kVocab; ++token) {
        if (token == top - want.begin()) continue;
        const float error = std::abs(have[token] - want[token]);
        worst = std::max(worst, error);
        squares += error * error;
        spread += std::pow(want[token] - mean, 2);
      }
    }
    const auto alone = Drive(runner->get(), {sequences_[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*alone)[0], actual[i], "sequence " + std::to_string(i));
  }
  const double relative = std::sqrt(squares / spread);
  std::printf("%s: error of log-probabilities %.5f of their spread, max %.4f\n",
              GetParam().c_str(), relative, worst);
  // A rounding to bf16 is up to 2^-9, and a dozen of them add up on the way.
  EXPECT_LT(relative, 0.012);
}

// Long sequences alone are split by position among the workers, and those in
// a large batch aren't.
TEST(CpuRunnerLongTest, SplitAttentionHasTheSameBits) {
  for (const char* shape : {"qwen2.5-0.5b", "gemma3-1b"}) {
    ModelConfig config = *SyntheticConfig(shape, /*layers=*/2);
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.vocab_size = kVocab;
    if (!config.windows.empty()) config.windows = {0, 1100};
    const auto model = MakeSyntheticModel(config, 9);
    constexpr int32_t kLength = 2300;
    constexpr int32_t kOthers = 20;
    std::mt19937 random(3);
    std::vector<DrivenSequence> sequences(1 + kOthers);
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].prompt.resize(i == 0 ? kLength : 5 + i);
      for (int32_t& token : sequences[i].prompt) {
        token = static_cast<int32_t>(random() % kVocab);
      }
      sequences[i].sampling.max_tokens = 6;
      sequences[i].sampling.temperature = 0;
      sequences[i].sampling.top_logprobs = 20;
    }
    RunnerOptions options;
    options.limits = DriverLimits(1 + kOthers, kLength + 8, 0);
    options.threads = 2;
    const auto runner = MakeCpuRunner(model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    const auto together = Drive(runner->get(), sequences);
    ASSERT_TRUE(together.ok()) << together.status();
    for (const int32_t chunk : {1 << 20, 400, 11}) {
      DriverOptions chunks;
      chunks.chunk = chunk;
      const auto alone = Drive(runner->get(), {sequences[0]}, chunks);
      ASSERT_TRUE(alone.ok()) << alone.status();
      ExpectSame((*together)[0], (*alone)[0],
                 std::string(shape) + " in chunks of " + std::to_string(chunk));
    }
    options.threads = 1;
    const auto unsplit = MakeCpuRunner(model, options);
    ASSERT_TRUE(unsplit.ok()) << unsplit.status();
    const auto alone = Drive(unsplit->get(), {sequences[0]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*together)[0], (*alone)[0], std::string(shape) + " unsplit");
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuRunnerShapesTest,
                         testing::ValuesIn(SyntheticShapes()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

}  // namespace
}  // namespace descant
