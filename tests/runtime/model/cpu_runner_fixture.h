// What tests of the CPU runner on tiny models share.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {

// A tiny model, its adapters, and runners on it.
class CpuRunnerFixture : public testing::Test {
 protected:
  // `name` as in tests/golden/data/<name>.json.
  void Load(const std::string& name) {
    golden_ = ReadGolden(name);
    const auto loaded =
        LoadModel(SourcePath("tests/golden/models/" + golden_.model));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
    slots_[""] = kNoSlot;
    for (const GoldenAdapter& golden : golden_.adapters) {
      slots_[golden.name] = kNoSlot;
      if (golden.kind == "base") continue;
      const auto adapter = MakeGoldenAdapter(golden, model_->base_shape);
      ASSERT_TRUE(adapter.ok()) << golden.name << ": " << adapter.status();
      slots_[golden.name] = static_cast<int32_t>(adapters_.size());
      adapters_.push_back(*adapter);
    }
  }

  std::unique_ptr<Runner> MakeRunner(int32_t sequences, int32_t length,
                                     int32_t threads) {
    RunnerOptions options;
    options.limits =
        DriverLimits(sequences, length, static_cast<int32_t>(adapters_.size()));
    options.threads = threads;
    options.weights = weights_;
    options.adapter_weights = adapter_weights_;
    auto runner = MakeCpuRunner(model_, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return nullptr;
    LoadAdapters(runner->get());
    return *std::move(runner);
  }

  // Each into the slot of its index.
  void LoadAdapters(Runner* runner) {
    for (size_t slot = 0; slot < adapters_.size(); ++slot) {
      EXPECT_TRUE(
          runner->LoadAdapter(static_cast<int32_t>(slot), adapters_[slot])
              .ok());
    }
  }

  // The golden cases, fed with the oracle's tokens so that a near tie does
  // not spread.
  std::vector<DrivenSequence> GoldenSequences() const {
    std::vector<DrivenSequence> sequences;
    for (const GoldenCase& golden : golden_.cases) {
      DrivenSequence sequence;
      sequence.prompt = golden.prompt;
      sequence.slot = slots_.at(golden.adapter);
      sequence.sampling.temperature = 0;
      sequence.sampling.max_tokens = static_cast<int32_t>(golden.tokens.size());
      sequence.sampling.top_logprobs = model_->config.vocab_size;
      sequence.forced = golden.tokens;
      sequences.push_back(sequence);
    }
    return sequences;
  }

  // Of the longest golden case.
  int32_t GoldenLength() const {
    size_t longest = 0;
    for (const GoldenCase& golden : golden_.cases) {
      longest = std::max(longest, golden.prompt.size() + golden.tokens.size());
    }
    return static_cast<int32_t>(longest);
  }

  // Random prompts over all adapters, greedy and sampled.
  std::vector<DrivenSequence> RandomSequences(int32_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<DrivenSequence> sequences(count);
    for (DrivenSequence& sequence : sequences) {
      sequence.prompt.resize(1 + random() % kLongestPrompt);
      for (int32_t& token : sequence.prompt) {
        token = static_cast<int32_t>(random() % model_->config.vocab_size);
      }
      const int32_t choices = static_cast<int32_t>(adapters_.size()) + 1;
      sequence.slot = static_cast<int32_t>(random() % choices) - 1;
      sequence.sampling.temperature = random() % 2 == 0 ? 0.0f : 1.5f;
      sequence.sampling.seed = random();
      sequence.sampling.max_tokens = 1 + static_cast<int32_t>(random() % 12);
      sequence.sampling.top_logprobs = 3;
    }
    return sequences;
  }

  static constexpr int32_t kLongestPrompt = 150;
  GoldenFile golden_;
  // Of runners made next.
  WeightType weights_ = WeightType::kBf16;
  AdapterWeightType adapter_weights_ = AdapterWeightType::kBf16;
  std::shared_ptr<const Model> model_;
  std::vector<std::shared_ptr<const Adapter>> adapters_;
  std::map<std::string, int32_t> slots_;
};

// Bits, not values: sampling and log-probabilities too.
inline void ExpectSame(const DrivenResult& expected, const DrivenResult& actual,
                       const std::string& what) {
  EXPECT_EQ(expected.tokens, actual.tokens) << what;
  ASSERT_EQ(expected.logprobs, actual.logprobs) << what;
  ASSERT_EQ(expected.top.size(), actual.top.size());
  for (size_t i = 0; i < expected.top.size(); ++i) {
    ASSERT_EQ(expected.top[i].size(), actual.top[i].size());
    for (size_t j = 0; j < expected.top[i].size(); ++j) {
      EXPECT_EQ(expected.top[i][j].token, actual.top[i][j].token) << what;
      EXPECT_EQ(expected.top[i][j].logprob, actual.top[i][j].logprob) << what;
    }
  }
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FIXTURE_H_
