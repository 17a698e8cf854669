// The CPU runner against the oracle's stored answers and the reference
// runner, and against itself bit for bit: alone or in any batch, in any
// chunks, on any number of threads.
#include "runtime/model/cpu_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

// A tiny model, its adapters, and runners on it.
class CpuRunnerTest : public testing::Test {
 protected:
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
    auto runner = MakeCpuRunner(model_, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return nullptr;
    for (size_t slot = 0; slot < adapters_.size(); ++slot) {
      EXPECT_TRUE((*runner)
                      ->LoadAdapter(static_cast<int32_t>(slot), adapters_[slot])
                      .ok());
    }
    return *std::move(runner);
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
  std::shared_ptr<const Model> model_;
  std::vector<std::shared_ptr<const Adapter>> adapters_;
  std::map<std::string, int32_t> slots_;
};

// Bits, not values: sampling and log-probabilities too.
void ExpectSame(const DrivenResult& expected, const DrivenResult& actual,
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

TEST_F(CpuRunnerTest, MatchesTheOraclesLogProbabilities) {
  for (const char* name :
       {"tiny_llama", "tiny_llama_untied_sharded", "tiny_llama_rope_llama3",
        "tiny_llama_rope_linear"}) {
    adapters_.clear();
    Load(name);
    int32_t longest = 0;
    std::vector<DrivenSequence> sequences;
    for (const GoldenCase& golden : golden_.cases) {
      DrivenSequence sequence;
      sequence.prompt = golden.prompt;
      sequence.slot = slots_.at(golden.adapter);
      sequence.sampling.temperature = 0;
      sequence.sampling.max_tokens = static_cast<int32_t>(golden.tokens.size());
      sequence.sampling.top_logprobs = model_->config.vocab_size;
      sequence.forced = golden.tokens;
      longest = std::max(longest, static_cast<int32_t>(golden.prompt.size() +
                                                       golden.tokens.size()));
      sequences.push_back(sequence);
    }
    const auto runner =
        MakeRunner(static_cast<int32_t>(sequences.size()), longest, 2);
    const auto results = Drive(runner.get(), sequences);
    ASSERT_TRUE(results.ok()) << results.status();
    std::vector<float> errors;
    for (size_t i = 0; i < results->size(); ++i) {
      for (size_t t = 0; t < golden_.cases[i].top.size(); ++t) {
        for (const TokenLogprob& expected : golden_.cases[i].top[t]) {
          for (const TokenLogprob& actual : (*results)[i].top[t]) {
            if (actual.token != expected.token) continue;
            errors.push_back(std::abs(actual.logprob - expected.logprob));
          }
        }
      }
    }
    ASSERT_FALSE(errors.empty());
    std::sort(errors.begin(), errors.end());
    const float p50 = errors[errors.size() / 2];
    const float p99 = errors[errors.size() * 99 / 100];
    std::printf("%s: %zu log-probabilities, error p50 %.4f p99 %.4f max %.4f\n",
                name, errors.size(), p50, p99, errors.back());
    EXPECT_LT(p50, 0.019f);
    EXPECT_LT(p99, 0.14f);
    EXPECT_LT(errors.back(), 0.3f);
  }
}

TEST_F(CpuRunnerTest, AMixedBatchHasTheBitsOfEachAlone) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 12;
  const auto sequences = RandomSequences(kSequences, 7);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  const auto together = Drive(runner.get(), sequences);
  ASSERT_TRUE(together.ok()) << together.status();
  for (int32_t i = 0; i < kSequences; ++i) {
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok());
    ExpectSame((*alone)[0], (*together)[i], "sequence " + std::to_string(i));
  }
}

TEST_F(CpuRunnerTest, ChunksAndThreadsChangeNoBit) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 8;
  const auto sequences = RandomSequences(kSequences, 11);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 1);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok());
  for (const int32_t threads : {1, 2, 3}) {
    const auto other = MakeRunner(kSequences, kLongestPrompt + 16, threads);
    for (const int32_t chunk : {1, 5, 32, 100}) {
      DriverOptions options;
      options.chunk = chunk;
      options.token_from_last_step = chunk == 5;
      const auto actual = Drive(other.get(), sequences, options);
      ASSERT_TRUE(actual.ok());
      for (int32_t i = 0; i < kSequences; ++i) {
        ExpectSame((*expected)[i], (*actual)[i],
                   "threads " + std::to_string(threads) + " chunk " +
                       std::to_string(chunk) + " sequence " +
                       std::to_string(i));
      }
    }
  }
}

TEST_F(CpuRunnerTest, EveryInstructionSetAgreesWithTheReference) {
  Load("tiny_llama");
  const auto sequences = RandomSequences(6, 13);
  auto greedy = sequences;
  for (DrivenSequence& sequence : greedy) sequence.sampling.temperature = 0;
  const auto force = [&](DrivenSequence* sequence) {
    sequence->forced.assign(sequence->sampling.max_tokens, 5);
  };
  for (DrivenSequence& sequence : greedy) force(&sequence);
  RunnerOptions options;
  options.limits = DriverLimits(6, kLongestPrompt + 16,
                                static_cast<int32_t>(adapters_.size()));
  auto reference = MakeReferenceRunner(model_, options);
  ASSERT_TRUE(reference.ok());
  for (size_t slot = 0; slot < adapters_.size(); ++slot) {
    ASSERT_TRUE((*reference)
                    ->LoadAdapter(static_cast<int32_t>(slot), adapters_[slot])
                    .ok());
  }
  const auto expected = Drive(reference->get(), greedy);
  ASSERT_TRUE(expected.ok());
  for (const auto isa : {kernels::CpuIsa::kScalar, kernels::CpuIsa::kAvx2,
                         kernels::CpuIsa::kAvx512, kernels::CpuIsa::kAmx}) {
    if (isa > kernels::DetectCpuIsa()) continue;
    const std::string name(kernels::CpuIsaName(isa));
    setenv("DESCANT_CPU_ISA", name.c_str(), 1);
    const auto runner = MakeRunner(6, kLongestPrompt + 16, 2);
    unsetenv("DESCANT_CPU_ISA");
    ASSERT_NE(nullptr, runner);
    const auto actual = Drive(runner.get(), greedy);
    ASSERT_TRUE(actual.ok());
    for (size_t i = 0; i < greedy.size(); ++i) {
      ASSERT_EQ((*expected)[i].logprobs.size(), (*actual)[i].logprobs.size());
      // Of the likeliest token: its identity may differ at a near tie.
      for (size_t t = 0; t < (*expected)[i].top.size(); ++t) {
        EXPECT_NEAR((*expected)[i].top[t][0].logprob,
                    (*actual)[i].top[t][0].logprob, 0.15f)
            << name << " sequence " << i << " token " << t;
      }
    }
  }
}

// An adapter whose B is not finite: it fails its own sequence alone.
TEST_F(CpuRunnerTest, ANumericFaultStaysInItsSequence) {
  Load("tiny_llama");
  ASSERT_FALSE(adapters_.empty());
  auto broken = std::make_shared<Adapter>(*adapters_[0]);
  const AdapterMatrix& b = broken->modules[0].b;
  const std::vector<float> infinite(int64_t{b.rows} * b.columns,
                                    std::numeric_limits<float>::infinity());
  broken->modules[0].b.dtype = Dtype::kF32;
  broken->modules[0].b.data = infinite.data();
  const std::shared_ptr<const Adapter> sound = adapters_[0];
  adapters_.push_back(broken);

  auto sequences = RandomSequences(6, 17);
  for (DrivenSequence& sequence : sequences) sequence.slot = 0;
  const auto runner = MakeRunner(6, kLongestPrompt + 16, 2);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok());
  sequences[2].slot = static_cast<int32_t>(adapters_.size()) - 1;
  const auto actual = Drive(runner.get(), sequences);
  ASSERT_TRUE(actual.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(i == 2, (*actual)[i].numeric_fault);
    if (i != 2) ExpectSame((*expected)[i], (*actual)[i], "beside a fault");
  }
  // Blocks the broken sequence left behind harm nobody.
  sequences[2].slot = 0;
  const auto after = Drive(runner.get(), sequences);
  ASSERT_TRUE(after.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    ExpectSame((*expected)[i], (*after)[i], "after a fault");
  }
}

TEST_F(CpuRunnerTest, AdaptersFillTheArenaAndLeaveIt) {
  Load("tiny_llama");
  RunnerOptions options;
  options.limits = DriverLimits(1, 64, 3);
  options.threads = 1;
  auto measure = MakeCpuRunner(model_, options);
  ASSERT_TRUE(measure.ok());
  const uint64_t bytes = (*measure)->AdapterBytes(*adapters_[0]);
  EXPECT_GT(bytes, 0u);
  options.adapter_bytes = 2 * bytes;
  auto runner = MakeCpuRunner(model_, options);
  ASSERT_TRUE(runner.ok());
  EXPECT_TRUE((*runner)->LoadAdapter(0, adapters_[0]).ok());
  EXPECT_TRUE((*runner)->LoadAdapter(1, adapters_[0]).ok());
  EXPECT_EQ(absl::StatusCode::kResourceExhausted,
            (*runner)->LoadAdapter(2, adapters_[0]).code());
  (*runner)->UnloadAdapter(0);
  EXPECT_TRUE((*runner)->LoadAdapter(2, adapters_[0]).ok());
  EXPECT_TRUE((*runner)->LoadAdapter(1, adapters_[0]).ok());
}

}  // namespace
}  // namespace descant
