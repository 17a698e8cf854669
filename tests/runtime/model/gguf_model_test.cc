// GGUF files of every architecture as llama.cpp's converter writes them
// (tests/golden/make_gguf_models.py): their weights against the Hugging Face
// directories they were made from, their tokens against Transformers.
#include "runtime/model/gguf_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

constexpr float kTolerance = 1e-4f;

struct Case {
  const char* golden;
  const char* directory;  // with the same weights; null: none is
};

std::ostream& operator<<(std::ostream& out, const Case& entry) {
  return out << entry.golden;
}

class GgufModelTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    golden_ = ReadGolden(GetParam().golden);
    const auto loaded =
        LoadModel(SourcePath("tests/golden/gguf/" + golden_.model));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
  }

  GoldenFile golden_;
  std::shared_ptr<const Model> model_;
};

// In fp32; and from the second row on in bf16, as runners pack them.
TEST_P(GgufModelTest, EveryWeightEqualsTheDirectorys) {
  if (GetParam().directory == nullptr) {
    GTEST_SKIP() << "rounded, or fewer layers than the directory";
  }
  const auto loaded = LoadModel(
      SourcePath(std::string("tests/golden/models/") + GetParam().directory));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const ModelConfig& config = model_->config;
  ASSERT_EQ(config.num_layers, loaded->model->config.num_layers);
  int tensors = 0;
  for (int32_t i = 0; i < kWeightKinds; ++i) {
    const WeightKind kind = static_cast<WeightKind>(i);
    ASSERT_EQ(HasWeight(config, kind), HasWeight(loaded->model->config, kind))
        << i;
    if (!HasWeight(config, kind)) continue;
    const WeightShape shape = ShapeOf(config, kind);
    const int32_t layers = i < kLayerWeightKinds ? config.num_layers : 1;
    for (int32_t layer = 0; layer < layers; ++layer, ++tensors) {
      std::vector<float> ours(shape.rows * shape.columns);
      std::vector<float> theirs(ours.size());
      ASSERT_TRUE(
          model_->weights->ReadFp32(kind, layer, 0, absl::MakeSpan(ours)).ok());
      ASSERT_TRUE(loaded->model->weights
                      ->ReadFp32(kind, layer, 0, absl::MakeSpan(theirs))
                      .ok());
      for (size_t j = 0; j < ours.size(); ++j) {
        ASSERT_EQ(std::bit_cast<uint32_t>(ours[j]),
                  std::bit_cast<uint32_t>(theirs[j]))
            << "kind " << i << ", layer " << layer << ", element " << j;
      }
      const int64_t skip = shape.rows > 1 ? shape.columns : 0;
      std::vector<BFloat16> rounded(ours.size() - skip);
      ASSERT_TRUE(
          model_->weights
              ->ReadBf16(kind, layer, skip > 0 ? 1 : 0, absl::MakeSpan(rounded))
              .ok());
      for (size_t j = 0; j < rounded.size(); ++j) {
        ASSERT_EQ(rounded[j].bits, ToBFloat16(ours[skip + j]).bits)
            << "kind " << i << ", layer " << layer << ", element " << j;
      }
    }
  }
  EXPECT_GT(tensors, 10);
}

// Fed with the oracle's tokens, so that a near tie does not spread.
absl::StatusOr<std::vector<DrivenResult>> Answers(const GoldenFile& golden,
                                                  Runner* runner) {
  std::vector<DrivenSequence> sequences;
  for (const GoldenCase& entry : golden.cases) {
    DrivenSequence& sequence = sequences.emplace_back();
    sequence.prompt = entry.prompt;
    sequence.sampling.temperature = 0;
    sequence.sampling.max_tokens = static_cast<int32_t>(entry.tokens.size());
    sequence.sampling.top_logprobs = 5;
    sequence.forced = entry.tokens;
  }
  return Drive(runner, sequences, {});
}

RunnerOptions OptionsFor(const GoldenFile& golden) {
  int32_t longest = 0;
  for (const GoldenCase& entry : golden.cases) {
    longest = std::max(longest, static_cast<int32_t>(entry.prompt.size() +
                                                     entry.tokens.size()));
  }
  RunnerOptions options;
  options.threads = 1;
  options.limits =
      DriverLimits(static_cast<int32_t>(golden.cases.size()), longest, 1);
  return options;
}

TEST_P(GgufModelTest, TokensEqualTransformers) {
  auto runner = MakeReferenceRunner(model_, OptionsFor(golden_));
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto results = Answers(golden_, runner->get());
  ASSERT_TRUE(results.ok()) << results.status();
  float worst = 0;
  for (size_t i = 0; i < results->size(); ++i) {
    const GoldenCase& golden = golden_.cases[i];
    for (size_t t = 0; t < golden.tokens.size(); ++t) {
      if (golden.gaps[t] > 2 * kTolerance) {
        EXPECT_EQ((*results)[i].tokens[t], golden.tokens[t]) << t;
      }
      worst =
          std::max(worst, LogprobError(golden.top[t], (*results)[i].top[t]));
    }
  }
  std::printf("%s: largest log-probability error %.2g\n", GetParam().golden,
              worst);
  EXPECT_LT(worst, kTolerance);
}

// In bf16, so within what bf16 costs (cpu_runner_golden_test measures that
// closely): a wrong rope, window or cap is off by 0.3 and more.
TEST_P(GgufModelTest, TheCpuRunnerServesIt) {
  auto runner = MakeCpuRunner(model_, OptionsFor(golden_));
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto results = Answers(golden_, runner->get());
  ASSERT_TRUE(results.ok()) << results.status();
  std::vector<float> errors;
  for (size_t i = 0; i < results->size(); ++i) {
    const GoldenCase& golden = golden_.cases[i];
    for (size_t t = 0; t < golden.tokens.size(); ++t) {
      errors.push_back(LogprobError(golden.top[t], (*results)[i].top[t]));
    }
  }
  std::sort(errors.begin(), errors.end());
  std::printf("%s: log-probability error p50 %.2g, max %.2g\n",
              GetParam().golden, errors[errors.size() / 2], errors.back());
  EXPECT_LT(errors[errors.size() / 2], 0.03f);
  EXPECT_LT(errors.back(), 0.15f);
}

TEST(GgufSplitTest, TheNameIsThatOfTheWhole) {
  const auto loaded = LoadModel(
      SourcePath("tests/golden/gguf/llama-split-00001-of-00003.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model->name, "llama-split");
}

INSTANTIATE_TEST_SUITE_P(
    Tiny, GgufModelTest,
    testing::Values(
        Case{"gguf_llama_f32", nullptr}, Case{"gguf_llama_f16", nullptr},
        Case{"gguf_llama_rope_llama3", "tiny-llama-rope-llama3"},
        Case{"gguf_llama_bias", "tiny-llama-bias"},
        Case{"gguf_llama_fused", "tiny-llama-untied-sharded"},
        Case{"gguf_llama_split", "tiny-llama-rope-linear"},
        Case{"gguf_llama_mix", nullptr}, Case{"gguf_mistral", "tiny-mistral"},
        Case{"gguf_qwen2", "tiny-qwen2"}, Case{"gguf_qwen3", "tiny-qwen3"},
        Case{"gguf_gemma2", "tiny-gemma2"}, Case{"gguf_gemma3", "tiny-gemma3"},
        Case{"gguf_phi3", "tiny-phi3"},
        Case{"gguf_phi3_longrope", "tiny-phi3-longrope"},
        Case{"gguf_gpt2", "tiny-gpt2"}),
    [](const testing::TestParamInfo<Case>& info) {
      return std::string(info.param.golden);
    });

}  // namespace
}  // namespace descant
