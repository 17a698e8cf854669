// The CPU runner on the demo model with trained and random adapters, all cases
// of a file in one mixed batch, against the fp32 oracle: its error stays below
// half that of Transformers + PEFT in bf16 on the same data (yardstick.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

constexpr int32_t kTop = 256;  // enough to find the oracle's top 5 in

struct Errors {
  std::vector<float> values;
  int missing = 0;
  int flips = 0;
  float flip_gap = 0;

  float Quantile(double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(q * (values.size() - 1))];
  }
};

void Compare(const GoldenCase& golden, const DrivenResult& result,
             Errors* errors) {
  for (size_t t = 0; t < golden.tokens.size(); ++t) {
    for (const TokenLogprob& expected : golden.top[t]) {
      const auto& top = result.top[t];
      const auto found =
          std::find_if(top.begin(), top.end(), [&](const TokenLogprob& actual) {
            return actual.token == expected.token;
          });
      if (found == top.end()) {
        ++errors->missing;
        continue;
      }
      errors->values.push_back(std::abs(found->logprob - expected.logprob));
    }
    if (result.tokens[t] == golden.tokens[t]) continue;
    ++errors->flips;
    errors->flip_gap = std::max(errors->flip_gap, golden.gaps[t]);
  }
}

// How a case's steps are computed.
enum class Mode { kMixed, kMerged, kByTurns };

class CpuRunnerDemoTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = DepsPath("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    ASSERT_TRUE(FileExists(path)) << path;
    const auto loaded = LoadModel(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
  }

  // Adds the errors of one golden file to `errors`: all cases in one batch, or
  // those of each adapter with merged weights, or with merged and unmerged
  // steps by turns, so that both leave keys and values in one sequence.
  void Measure(const std::string& name, Mode mode, Errors* errors) {
    const GoldenFile golden = ReadGolden(name);
    size_t longest = 0;
    for (const GoldenCase& entry : golden.cases) {
      longest = std::max(longest, entry.prompt.size() + entry.tokens.size());
    }
    RunnerOptions options;
    options.limits = DriverLimits(static_cast<int32_t>(golden.cases.size()),
                                  static_cast<int32_t>(longest) + 1,
                                  static_cast<int32_t>(golden.adapters.size()));
    const auto runner = MakeCpuRunner(model_, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    std::map<std::string, int32_t> slots;
    std::map<int32_t, std::shared_ptr<const Adapter>> adapters;
    for (const GoldenAdapter& entry : golden.adapters) {
      const auto adapter = MakeGoldenAdapter(entry, model_->base_shape);
      ASSERT_TRUE(adapter.ok()) << entry.name << ": " << adapter.status();
      const int32_t slot = static_cast<int32_t>(slots.size());
      slots[entry.name] = *adapter == nullptr ? kNoSlot : slot;
      if (*adapter != nullptr) {
        ASSERT_TRUE((*runner)->LoadAdapter(slot, *adapter).ok());
        adapters[slot] = *adapter;
      }
    }
    std::vector<DrivenSequence> sequences;
    for (const GoldenCase& entry : golden.cases) {
      DrivenSequence sequence;
      sequence.prompt = entry.prompt;
      sequence.forced = entry.tokens;
      sequence.slot = slots[entry.adapter];
      sequence.sampling.temperature = 0;
      sequence.sampling.top_logprobs = kTop;
      sequence.sampling.max_tokens = static_cast<int32_t>(entry.tokens.size());
      sequences.push_back(sequence);
    }
    if (mode == Mode::kMixed) {
      Run(runner->get(), golden.cases, sequences, {}, errors);
      return;
    }
    for (const auto& [slot, adapter] : adapters) {
      const auto merged = (*runner)->MergeAdapter(adapter);
      ASSERT_TRUE(merged.ok()) << merged.status();
      std::vector<GoldenCase> cases;
      std::vector<DrivenSequence> mine;
      for (size_t i = 0; i < sequences.size(); ++i) {
        if (sequences[i].slot != slot) continue;
        cases.push_back(golden.cases[i]);
        mine.push_back(sequences[i]);
      }
      if (!mine.empty()) {
        RunMerged(runner->get(), cases, mine, **merged, mode, errors);
      }
    }
  }

  void Run(Runner* runner, const std::vector<GoldenCase>& cases,
           const std::vector<DrivenSequence>& sequences, DriverOptions options,
           Errors* errors) {
    options.chunk = 64;
    const auto results = Drive(runner, sequences, options);
    ASSERT_TRUE(results.ok()) << results.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      Compare(cases[i], (*results)[i], errors);
    }
  }

  // Each step is computed the other way as well, and compared.
  void RunMerged(Runner* runner, const std::vector<GoldenCase>& cases,
                 const std::vector<DrivenSequence>& sequences,
                 const MergedWeights& merged, Mode mode, Errors* errors) {
    int steps = 0;
    bool compared = false;
    DriverOptions options;
    options.before_launch = [&](Batch* batch) {
      compared = steps++ % 2 == 0;
      if (mode == Mode::kMerged || !compared) batch->merged = &merged;
      if (mode == Mode::kMerged) compared = false;
      if (compared) {
        ASSERT_TRUE(runner->Rehearse(*batch, &merged).ok());
      }
    };
    options.after_collect = [&] {
      if (!compared) return;
      const auto found = runner->CompareWithRehearsal();
      ASSERT_TRUE(found.ok());
      difference_.Add(*found);
      differences_.push_back(found->largest);
    };
    Run(runner, cases, sequences, options, errors);
  }

  static void Print(const char* what, Errors* errors,
                    const nlohmann::json& yardstick) {
    std::printf(
        "%s: %zu log-probabilities: error p50 %.4f p99 %.4f max %.4f, %d "
        "argmax flips up to a gap of %.3f, %d not in the top %d (bf16 "
        "yardstick: p50 %.4f p99 %.4f max %.4f)\n",
        what, errors->values.size(), errors->Quantile(0.5),
        errors->Quantile(0.99), errors->Quantile(1.0), errors->flips,
        errors->flip_gap, errors->missing, kTop, yardstick["p50"].get<float>(),
        yardstick["p99"].get<float>(), yardstick["max"].get<float>());
  }
  static nlohmann::json YardstickOfAll() {
    return nlohmann::json::parse(
        ReadFileOrDie(SourcePath("tests/golden/data/yardstick.json")))["all"];
  }

  LogprobDifference difference_;  // merged and unmerged, of single steps
  std::vector<float> differences_;
  std::shared_ptr<const Model> model_;
};

TEST_F(CpuRunnerDemoTest, ErrorIsHalfTheBf16Yardstick) {
  Errors errors;
  for (const char* name : {"demo_base", "demo_random", "demo_trained"}) {
    Measure(name, Mode::kMixed, &errors);
  }
  const auto yardstick = YardstickOfAll();
  ASSERT_GT(errors.values.size(), 1000u);
  Print("unmerged", &errors, yardstick);
  // Half of it, as the design aims at. The tail is looked at up to one value in
  // a thousand: one position of a random adapter is ill-conditioned (noise of
  // half a bf16 step on the weights moves it by 1.7 in the fp32 reference
  // runner too), and its error says nothing of the arithmetic.
  EXPECT_LE(errors.Quantile(0.5), 0.5f * yardstick["p50"].get<float>());
  EXPECT_LE(errors.Quantile(0.99), 0.5f * yardstick["p99"].get<float>());
  EXPECT_LE(errors.Quantile(0.999), yardstick["max"].get<float>());
  EXPECT_LE(errors.missing, static_cast<int>(errors.values.size() / 1000));
  EXPECT_LE(errors.flips, yardstick["flips"].get<int>());
}

// What hot merge promises: merged or by turns, the error stays within that of
// Transformers + PEFT in bf16. As above for the tail.
TEST_F(CpuRunnerDemoTest, MergedErrorIsWithinTheBf16Yardstick) {
  const auto yardstick = YardstickOfAll();
  for (const Mode mode : {Mode::kMerged, Mode::kByTurns}) {
    Errors errors;
    if (mode == Mode::kMerged) Measure("demo_random", mode, &errors);
    Measure("demo_trained", mode, &errors);
    ASSERT_GT(errors.values.size(), 500u);
    Print(mode == Mode::kMerged ? "merged" : "by turns", &errors, yardstick);
    EXPECT_LE(errors.Quantile(0.5), yardstick["p50"].get<float>());
    EXPECT_LE(errors.Quantile(0.99), yardstick["p99"].get<float>());
    EXPECT_LE(errors.Quantile(0.999), yardstick["max"].get<float>());
    EXPECT_LE(errors.flips, 2 * yardstick["flips"].get<int>());
  }
  std::sort(differences_.begin(), differences_.end());
  ASSERT_GT(differences_.size(), 20u);
  std::printf(
      "merged beside unmerged, %zu steps: largest of a step p50 %.3f "
      "p99 %.3f max %.3f; %d of %d outputs flip, up to %.3f\n",
      differences_.size(), differences_[differences_.size() / 2],
      differences_[differences_.size() * 99 / 100], differences_.back(),
      difference_.flips, difference_.outputs, difference_.widest_flip);
  EXPECT_TRUE(WithinMergeTolerance(difference_));
}

}  // namespace
}  // namespace descant
