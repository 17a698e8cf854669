// The CPU runner on every family's tiny model with its 16 adapters of ranks 1
// to 64, on every instruction set that this machine has: against the stored
// answers of Transformers + PEFT in fp32, and against itself bit for bit.
//
// The tolerance is the oracle's own: the error that Transformers + PEFT make in
// bf16 on the same data (yardstick_*.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/kernels/cpu/cpu_features.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace descant {
namespace {

using kernels::CpuIsa;

// One for each tiny model: tests/golden/data/tiny_<name>.json.
constexpr const char* kFiles[] = {"llama",
                                  "llama_untied_sharded",
                                  "llama_rope_llama3",
                                  "llama_rope_linear",
                                  "llama_bias",
                                  "mistral",
                                  "qwen2",
                                  "qwen3",
                                  "gemma2",
                                  "gemma3",
                                  "phi3",
                                  "phi3_longrope",
                                  "gpt2"};

struct Yardstick {
  float p50, p99, max;
};

Yardstick ReadYardstick(const std::string& name) {
  const auto read = [](const char* file) {
    return nlohmann::json::parse(
        ReadFileOrDie(SourcePath(std::string("tests/golden/data/") + file)));
  };
  const auto families = read("yardstick_families.json").at("by_file");
  const auto all = families.contains(name)
                       ? families.at(name).at("all")
                       : read("yardstick_tiny.json").at("all");
  return {all.at("p50"), all.at("p99"), all.at("max")};
}

class CpuRunnerGoldenTest
    : public CpuRunnerFixture,
      public testing::WithParamInterface<std::tuple<CpuIsa, const char*>> {
 protected:
  void SetUp() override {
    const CpuIsa isa = std::get<0>(GetParam());
    if (isa > kernels::DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    setenv("DESCANT_CPU_ISA", std::string(kernels::CpuIsaName(isa)).c_str(), 1);
    name_ = std::string("tiny_") + std::get<1>(GetParam());
    Load(name_);
  }
  void TearDown() override { unsetenv("DESCANT_CPU_ISA"); }

  void ExpectAllSame(const std::vector<DrivenResult>& expected, Runner* runner,
                     const std::vector<DrivenSequence>& sequences,
                     const DriverOptions& options, const std::string& what) {
    const auto actual = Drive(runner, sequences, options);
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      ExpectSame(expected[i], (*actual)[i],
                 what + ", sequence " + std::to_string(i));
    }
  }

  std::string name_;
};

struct Errors {
  std::vector<float> values;
  int flips = 0;
  float flip_gap = 0;  // the oracle's widest gap at a flip

  void Add(const GoldenCase& golden, const DrivenResult& result) {
    for (size_t t = 0; t < golden.tokens.size(); ++t) {
      for (const TokenLogprob& expected : golden.top[t]) {
        for (const TokenLogprob& actual : result.top[t]) {
          if (actual.token != expected.token) continue;
          values.push_back(std::abs(actual.logprob - expected.logprob));
        }
      }
      if (result.tokens[t] == golden.tokens[t]) continue;
      ++flips;
      flip_gap = std::max(flip_gap, golden.gaps[t]);
    }
  }
};

// Mixed: all cases in one batch. Alone: the same bits.
TEST_P(CpuRunnerGoldenTest, ErrorIsWithinTheBf16YardstickMixedAndAlone) {
  const auto sequences = GoldenSequences();
  const auto runner =
      MakeRunner(static_cast<int32_t>(sequences.size()), GoldenLength(), 2);
  ASSERT_NE(nullptr, runner);
  const auto mixed = Drive(runner.get(), sequences);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  Errors errors;
  size_t expected_values = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_FALSE((*mixed)[i].numeric_fault);
    errors.Add(golden_.cases[i], (*mixed)[i]);
    expected_values += 5 * golden_.cases[i].tokens.size();
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*alone)[0], (*mixed)[i], "case " + std::to_string(i));
  }
  ASSERT_EQ(expected_values, errors.values.size());
  std::sort(errors.values.begin(), errors.values.end());
  const float p50 = errors.values[errors.values.size() / 2];
  const float p99 = errors.values[errors.values.size() * 99 / 100];
  const float max = errors.values.back();
  const Yardstick yardstick = ReadYardstick(name_);
  std::printf(
      "%-26s %-10s %zu adapters: p50 %.4f p99 %.4f max %.4f, %d flips up to a "
      "gap of %.4f (bf16 yardstick p50 %.4f p99 %.4f max %.4f)\n",
      name_.c_str(), runner->Describe().substr(4, 6).c_str(), adapters_.size(),
      p50, p99, max, errors.flips, errors.flip_gap, yardstick.p50,
      yardstick.p99, yardstick.max);
  EXPECT_LE(p50, yardstick.p50);
  EXPECT_LE(p99, yardstick.p99);
  EXPECT_LE(max, yardstick.max);
  // Both log-probabilities of a near tie may move.
  EXPECT_LE(errors.flip_gap, 2 * max);
  EXPECT_LE(errors.flip_gap, yardstick.max);
}

TEST_P(CpuRunnerGoldenTest, BitsDoNotDependOnChunksThreadsOrPreemption) {
  constexpr int32_t kSequences = 17;
  const auto sequences = RandomSequences(kSequences, 23);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  ASSERT_NE(nullptr, runner);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const int32_t chunk : {1, 37}) {
    DriverOptions options;
    options.chunk = chunk;
    options.token_from_last_step = chunk == 1;
    ExpectAllSame(*expected, runner.get(), sequences, options,
                  "chunks of " + std::to_string(chunk));
  }
  DriverOptions preempted;
  preempted.chunk = 60;
  preempted.preempt_every = 7;
  ExpectAllSame(*expected, runner.get(), sequences, preempted, "preempted");
  const auto threads = MakeRunner(kSequences, kLongestPrompt + 16, 3);
  ASSERT_NE(nullptr, threads);
  ExpectAllSame(*expected, threads.get(), sequences, {}, "three threads");
}

// The highest set first: oneDNN reads its limit, which lower ones set, once.
INSTANTIATE_TEST_SUITE_P(
    All, CpuRunnerGoldenTest,
    testing::Combine(testing::Values(CpuIsa::kAmx, CpuIsa::kAvx512,
                                     CpuIsa::kAvx2),
                     testing::ValuesIn(kFiles)),
    [](const auto& info) {
      return std::string(kernels::CpuIsaName(std::get<0>(info.param))) + "_" +
             std::get<1>(info.param);
    });

TEST(GoldenFilesTest, EveryTinyModelIsTested) {
  std::set<std::string> there;
  for (const auto& entry :
       std::filesystem::directory_iterator(SourcePath("tests/golden/data"))) {
    const std::string name = entry.path().stem().string();
    if (name.rfind("tiny_", 0) == 0) there.insert(name.substr(5));
  }
  EXPECT_EQ(std::set<std::string>(std::begin(kFiles), std::end(kFiles)), there);
}

}  // namespace
}  // namespace descant
