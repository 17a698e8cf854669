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
#include "tests/runtime/model/golden_errors.h"

namespace descant {
namespace {

using kernels::CpuIsa;

class CpuRunnerGoldenTest
    : public CpuRunnerFixture,
      public testing::WithParamInterface<std::tuple<CpuIsa, const char*>> {
 protected:
  void SetUp() override {
    const CpuIsa isa = std::get<0>(GetParam());
    if (isa > kernels::DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    setenv("DESCANT_CPU_ISA", std::string(kernels::CpuIsaName(isa)).c_str(), 1);
    name_ = std::get<1>(GetParam());
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

// Mixed: all cases in one batch. Alone: the same bits.
TEST_P(CpuRunnerGoldenTest, ErrorIsWithinTheBf16YardstickMixedAndAlone) {
  const auto sequences = GoldenSequences();
  const auto runner =
      MakeRunner(static_cast<int32_t>(sequences.size()), GoldenLength(), 2);
  ASSERT_NE(nullptr, runner);
  const auto mixed = Drive(runner.get(), sequences);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  GoldenErrors errors;
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
  ExpectWithinYardstick(name_, runner->Describe().substr(4, 6).c_str(),
                        &errors);
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
                     testing::ValuesIn(kGoldenModels)),
    [](const auto& info) {
      return std::string(kernels::CpuIsaName(std::get<0>(info.param))) + "_" +
             std::get<1>(info.param);
    });

TEST(GoldenFilesTest, EveryTinyModelIsTested) {
  std::set<std::string> there;
  for (const auto& entry :
       std::filesystem::directory_iterator(SourcePath("tests/golden/data"))) {
    const std::string name = entry.path().stem().string();
    if (name.rfind("tiny_", 0) == 0) there.insert(name);
  }
  EXPECT_EQ(
      std::set<std::string>(std::begin(kGoldenModels), std::end(kGoldenModels)),
      there);
}

}  // namespace
}  // namespace descant
