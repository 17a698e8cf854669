// The demo model's GGUF through loader and reference runner, against the fp32
// oracle. Skipped where the download is not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "runtime/model/model.h"
#include "runtime/model/weight_source.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

constexpr float kTolerance = 1e-3f;
// Prompts above are left to the fast runners.
constexpr size_t kLongestPrompt = 160;
constexpr int32_t kCasesPerAdapter = 3;

std::string ModelPath() {
  return DepsPath("models/SmolLM2-135M-Instruct.Q4_1.gguf");
}

// A field of /proc/self/status in MiB.
double StatusMebibytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, field)) continue;
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t kibibytes = 0;
    if (absl::SimpleAtoi(words[1], &kibibytes)) return kibibytes / 1024.0;
  }
  return 0;
}

class DemoModelTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_TRUE(FileExists(ModelPath())) << ModelPath(); }

  void Load() {
    auto loaded = LoadModel(ModelPath());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
    tokenizer_ = loaded->tokenizer;
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_F(DemoModelTest, LoadsQuicklyAndInLittleMemory) {
  const double before = StatusMebibytes("VmHWM:");
  const auto start = std::chrono::steady_clock::now();
  Load();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  const double loaded = StatusMebibytes("VmHWM:");
  EXPECT_EQ(model_->config.num_layers, 30);
  EXPECT_EQ(model_->config.vocab_size, 49152);
  EXPECT_EQ(model_->name, "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(model_->eos_token_ids, std::vector<int32_t>{2});
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  EXPECT_FALSE(model_->chat_template.empty());
  EXPECT_EQ(model_->base_shape.modules.size(), 210u);

  // Every weight once, as a runner packs it.
  const auto reading = std::chrono::steady_clock::now();
  std::vector<BFloat16> rows;
  const auto read = [&](WeightKind kind, int32_t layer) {
    const WeightShape shape = ShapeOf(model_->config, kind);
    const int64_t step = std::min<int64_t>(shape.rows, 1024);
    for (int64_t row = 0; row < shape.rows; row += step) {
      rows.resize(std::min(step, shape.rows - row) * shape.columns);
      ASSERT_TRUE(
          model_->weights->ReadBf16(kind, layer, row, absl::MakeSpan(rows))
              .ok());
    }
  };
  read(WeightKind::kEmbedding, 0);
  for (int32_t layer = 0; layer < model_->config.num_layers; ++layer) {
    for (int32_t i = 0; i < kLayerWeightKinds; ++i) {
      const auto kind = static_cast<WeightKind>(i);
      if (HasWeight(model_->config, kind)) read(kind, layer);
    }
  }
  std::printf(
      "load %.2f s (tokenizer and fingerprint included), peak %.0f MiB "
      "(%.0f before); all weights to bf16 %.2f s, peak %.0f MiB\n%s\n",
      seconds, loaded, before,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - reading)
          .count(),
      StatusMebibytes("VmHWM:"), model_->base_shape.fingerprint.c_str());
  // Reading all 93 MB must not keep them: only buffers may be added.
  EXPECT_LT(StatusMebibytes("VmHWM:"), loaded + 16);
}

TEST_P(DemoModelTest, ReferenceRunnerEqualsTheOracle) {
  const std::string name = GetParam();
  const GoldenFile golden = ReadGolden(name);
  Load();
  std::map<std::string, int32_t> taken;
  std::vector<const GoldenCase*> cases;
  for (const GoldenCase& entry : golden.cases) {
    if (entry.prompt.size() > kLongestPrompt) continue;
    if (golden.adapters.size() > 1 &&
        ++taken[entry.adapter] > kCasesPerAdapter) {
      continue;
    }
    cases.push_back(&entry);
  }
  RunnerOptions options;
  // Two spinning ones on a busy machine are far slower than one.
  options.threads = 1;
  options.limits =
      DriverLimits(static_cast<int32_t>(cases.size()), kLongestPrompt + 32,
                   static_cast<int32_t>(golden.adapters.size()));
  const auto runner = MakeReferenceRunner(model_, options);
  ASSERT_TRUE(runner.ok()) << runner.status();
  std::map<std::string, int32_t> slots;
  for (const GoldenAdapter& entry : golden.adapters) {
    const auto adapter = MakeGoldenAdapter(entry, model_->base_shape);
    ASSERT_TRUE(adapter.ok()) << entry.name << ": " << adapter.status();
    const int32_t slot = static_cast<int32_t>(slots.size());
    slots[entry.name] = *adapter == nullptr ? kNoSlot : slot;
    if (*adapter != nullptr) {
      ASSERT_TRUE((*runner)->LoadAdapter(slot, *adapter).ok());
    }
  }
  std::vector<DrivenSequence> sequences(cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    sequences[i].prompt = cases[i]->prompt;
    sequences[i].forced = cases[i]->tokens;
    sequences[i].slot = slots[cases[i]->adapter];
    sequences[i].sampling.temperature = 0;
    sequences[i].sampling.top_logprobs = 5;
    sequences[i].sampling.max_tokens =
        static_cast<int32_t>(cases[i]->tokens.size());
  }
  const auto results = Drive(runner->get(), sequences);
  ASSERT_TRUE(results.ok()) << results.status();
  float worst = 0;
  int flips = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    for (size_t t = 0; t < cases[i]->tokens.size(); ++t) {
      worst =
          std::max(worst, LogprobError(cases[i]->top[t], (*results)[i].top[t]));
      if ((*results)[i].tokens[t] == cases[i]->tokens[t]) continue;
      ++flips;
      EXPECT_LT(cases[i]->gaps[t], 2 * kTolerance)
          << "adapter '" << cases[i]->adapter << "', token " << t;
    }
  }
  std::printf(
      "%s: %zu cases in one batch, largest log-probability error %.2g, %d "
      "argmax flips\n",
      name.c_str(), cases.size(), worst, flips);
  EXPECT_LT(worst, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Demo, DemoModelTest,
                         testing::Values("demo_base", "demo_random",
                                         "demo_trained"));

}  // namespace
}  // namespace descant
