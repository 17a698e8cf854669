// The reference runner against Transformers + PEFT in fp32
// (tests/golden/data): the oracle's own oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

constexpr float kTolerance = 1e-4f;

class ReferenceRunnerTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = ReadGolden(GetParam());
    const auto loaded =
        LoadModel(SourcePath("tests/golden/models/" + golden_.model));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
    int32_t longest = 0;
    for (const GoldenCase& golden : golden_.cases) {
      longest = std::max(longest, static_cast<int32_t>(golden.prompt.size() +
                                                       golden.tokens.size()));
    }
    RunnerOptions options;
    options.threads = 1;
    options.limits =
        DriverLimits(static_cast<int32_t>(golden_.cases.size()), longest,
                     static_cast<int32_t>(golden_.adapters.size()));
    auto runner = MakeReferenceRunner(model_, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
    int32_t slot = 0;
    for (const GoldenAdapter& golden : golden_.adapters) {
      slots_[golden.name] = kNoSlot;
      if (golden.kind == "base") continue;
      const auto adapter = MakeGoldenAdapter(golden, model_->base_shape);
      ASSERT_TRUE(adapter.ok()) << golden.name << ": " << adapter.status();
      ASSERT_TRUE(runner_->LoadAdapter(slot, *adapter).ok());
      slots_[golden.name] = slot++;
    }
  }

  // Fed with the oracle's tokens, so that a near tie does not spread.
  DrivenSequence SequenceOf(const GoldenCase& golden, bool forced) const {
    DrivenSequence sequence;
    sequence.prompt = golden.prompt;
    sequence.slot = slots_.at(golden.adapter);
    sequence.sampling.temperature = 0;
    sequence.sampling.max_tokens = static_cast<int32_t>(golden.tokens.size());
    sequence.sampling.top_logprobs = 5;
    if (forced) sequence.forced = golden.tokens;
    return sequence;
  }

  void Compare(const std::string& what, const DriverOptions& options,
               bool forced) {
    std::vector<DrivenSequence> sequences;
    for (const GoldenCase& golden : golden_.cases) {
      sequences.push_back(SequenceOf(golden, forced));
    }
    const auto results = Drive(runner_.get(), sequences, options);
    ASSERT_TRUE(results.ok()) << results.status();
    float worst = 0;
    for (size_t i = 0; i < results->size(); ++i) {
      worst = std::max(worst, Worst(golden_.cases[i], (*results)[i], forced));
    }
    std::printf("%s, %s: %zu cases, largest log-probability error %.2g\n",
                GetParam(), what.c_str(), results->size(), worst);
    EXPECT_LT(worst, kTolerance);
  }

  // Running free, the contexts may part at a near tie: it ends there.
  float Worst(const GoldenCase& golden, const DrivenResult& result,
              bool forced) {
    float worst = 0;
    EXPECT_FALSE(result.numeric_fault);
    for (size_t t = 0; t < golden.tokens.size(); ++t) {
      if (golden.gaps[t] > 2 * kTolerance) {
        EXPECT_EQ(result.tokens[t], golden.tokens[t])
            << "adapter '" << golden.adapter << "', token " << t;
      }
      worst = std::max(worst, LogprobError(golden.top[t], result.top[t]));
      if (!forced && golden.gaps[t] <= 2 * kTolerance) break;
    }
    return worst;
  }

  GoldenFile golden_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Runner> runner_;
  std::map<std::string, int32_t> slots_;
};

TEST_P(ReferenceRunnerTest, EqualsTheOracleInOneMixedBatch) {
  Compare("mixed", {}, /*forced=*/true);
}

TEST_P(ReferenceRunnerTest, EqualsTheOracleWithChunkedPrefill) {
  DriverOptions options;
  options.chunk = 7;
  Compare("chunks of 7", options, /*forced=*/true);
}

TEST_P(ReferenceRunnerTest, GeneratesItsOwnTokens) {
  DriverOptions options;
  options.chunk = 33;
  options.token_from_last_step = true;
  Compare("free running", options, /*forced=*/false);
}

TEST_P(ReferenceRunnerTest, AloneEqualsMixed) {
  const GoldenCase& golden = golden_.cases.back();
  const auto alone = Drive(runner_.get(), {SequenceOf(golden, true)});
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_LT(Worst(golden, (*alone)[0], true), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Tiny, ReferenceRunnerTest,
                         testing::ValuesIn(kGoldenModels));

class TinyRunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto loaded = LoadModel(SourcePath("tests/golden/models/tiny-llama"));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
    golden_ = ReadGolden("tiny_llama");
    RunnerOptions options;
    options.threads = 1;
    options.limits = DriverLimits(4, 64, 4);
    auto runner = MakeReferenceRunner(model_, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }

  std::shared_ptr<const Adapter> AdapterNamed(const std::string& name) {
    for (const GoldenAdapter& golden : golden_.adapters) {
      if (golden.name == name) {
        return *MakeGoldenAdapter(golden, model_->base_shape);
      }
    }
    ADD_FAILURE() << name;
    return nullptr;
  }

  // Log-probabilities after a prompt of one step with these segments.
  std::vector<float> Logprobs(const std::vector<Segment>& segments) {
    SamplingParams greedy;
    greedy.temperature = 0;
    greedy.top_logprobs = 512;
    Batch batch;
    batch.tokens = {5, 6, 7, 8};
    batch.positions = {0, 1, 2, 3};
    batch.block_tables = {1};
    batch.output_rows = {3};
    batch.segments = segments;
    BatchSequence sequence;
    sequence.row_end = 4;
    sequence.block_count = 1;
    sequence.output = OutputKind::kTokens;
    sequence.output_end = 1;
    sequence.sampling = &greedy;
    batch.sequences = {sequence};
    EXPECT_TRUE(runner_->Launch(batch).ok());
    const auto output = runner_->Collect();
    EXPECT_TRUE(output.ok()) << output.status();
    std::vector<float> logprobs(512);
    for (const TokenLogprob& entry : (*output)->top) {
      logprobs[entry.token] = entry.logprob;
    }
    return logprobs;
  }

  static float Distance(const std::vector<float>& a,
                        const std::vector<float>& b) {
    float worst = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      worst = std::max(worst, std::abs(a[i] - b[i]));
    }
    return worst;
  }

  std::shared_ptr<const Model> model_;
  GoldenFile golden_;
  std::unique_ptr<Runner> runner_;
};

TEST_F(TinyRunnerTest, WeightsAddUpAndSegmentsMaySplitASequence) {
  const auto adapter = AdapterNamed("rank8");
  ASSERT_TRUE(runner_->LoadAdapter(2, adapter).ok());
  EXPECT_GT(runner_->AdapterBytes(*adapter), adapter->bytes);
  const std::vector<float> base = Logprobs({});
  const std::vector<float> whole = Logprobs({{0, 4, 2, 1.0f}});
  EXPECT_GT(Distance(base, whole), 1e-4f);
  EXPECT_EQ(Distance(base, Logprobs({{0, 4, 2, 0.0f}})), 0);
  EXPECT_LT(Distance(whole, Logprobs({{0, 4, 2, 0.25f}, {0, 4, 2, 0.75f}})),
            1e-5f);
  EXPECT_LT(Distance(whole, Logprobs({{0, 2, 2, 1.0f}, {2, 4, 2, 1.0f}})),
            1e-5f);
  const std::vector<float> late = Logprobs({{3, 4, 2, 1.0f}});
  EXPECT_GT(Distance(late, whole), 1e-5f);
  EXPECT_GT(Distance(late, base), 1e-5f);
}

TEST_F(TinyRunnerTest, AnEmptySlotFailsTheStepAndTheRunnerStaysUsable) {
  const std::vector<float> before = Logprobs({});
  ASSERT_TRUE(runner_->LoadAdapter(1, AdapterNamed("rank1")).ok());
  runner_->UnloadAdapter(1);
  Batch batch;
  batch.tokens = {1};
  batch.positions = {0};
  batch.segments = {{0, 1, 1, 1.0f}};
  EXPECT_EQ(runner_->Launch(batch).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Logprobs({}), before);
}

TEST_F(TinyRunnerTest, ANumericFaultStaysInItsSequence) {
  // Rank-1 factors large enough to overflow the first row's projections.
  auto broken = std::make_shared<Adapter>(*AdapterNamed("rank1"));
  for (AdapterModule& module : broken->modules) {
    module.scale = std::numeric_limits<float>::infinity();
  }
  ASSERT_TRUE(runner_->LoadAdapter(0, broken).ok());
  std::vector<DrivenSequence> sequences(2);
  for (DrivenSequence& sequence : sequences) {
    sequence.prompt = {3, 4, 5};
    sequence.sampling.temperature = 0;
    sequence.sampling.max_tokens = 3;
  }
  const auto alone = Drive(runner_.get(), {sequences[0]});
  sequences[1].slot = 0;
  const auto both = Drive(runner_.get(), sequences);
  ASSERT_TRUE(alone.ok() && both.ok());
  EXPECT_FALSE((*both)[0].numeric_fault);
  EXPECT_TRUE((*both)[1].numeric_fault);
  EXPECT_EQ((*both)[0].tokens, (*alone)[0].tokens);
}

}  // namespace
}  // namespace descant
