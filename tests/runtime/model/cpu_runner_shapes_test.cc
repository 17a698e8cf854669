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
