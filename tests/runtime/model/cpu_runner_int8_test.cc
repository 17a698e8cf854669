// The CPU runner with int8 weights on every family's tiny model with its
// adapters: against the stored answers of Transformers + PEFT in fp32, beside
// the same runner with bf16 weights, and against itself bit for bit.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tests/runtime/model/cpu_runner_families.h"
#include "tests/runtime/model/golden_errors.h"

namespace descant {
namespace {

class CpuRunnerInt8Test : public CpuRunnerFamiliesTest {
 protected:
  CpuRunnerInt8Test() { weights_ = WeightType::kInt8; }
};

// Eight bits of weights and eight of activations against bf16's 8 bits of
// significand for both: a value's error is relative to the largest of its row
// instead of to itself, some 4 to 8 times as much.
TEST_P(CpuRunnerInt8Test, ErrorIsBoundedMixedAndTheSameAlone) {
  const auto sequences = GoldenSequences();
  const int32_t count = static_cast<int32_t>(sequences.size());
  const auto runner = MakeRunner(count, GoldenLength(), 2);
  ASSERT_NE(nullptr, runner);
  EXPECT_NE(std::string::npos, runner->Describe().find("int8 weights"));
  const auto mixed = Drive(runner.get(), sequences);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_FALSE((*mixed)[i].numeric_fault);
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*alone)[0], (*mixed)[i], "case " + std::to_string(i));
  }
  weights_ = WeightType::kBf16;
  const auto beside = MakeRunner(count, GoldenLength(), 2);
  ASSERT_NE(nullptr, beside);
  const auto bf16 = Drive(beside.get(), sequences);
  ASSERT_TRUE(bf16.ok()) << bf16.status();
  const ErrorQuantiles error = QuantilesOf(golden_, *mixed);
  const ErrorQuantiles yardstick = QuantilesOf(golden_, *bf16);
  std::printf(
      "%-22s %-8s int8: p50 %.4f p99 %.4f max %.4f (bf16: p50 %.4f p99 %.4f "
      "max %.4f)\n",
      std::get<1>(GetParam()), runner->Describe().substr(4, 6).c_str(),
      error.p50, error.p99, error.max, yardstick.p50, yardstick.p99,
      yardstick.max);
  EXPECT_LE(error.p50, 8 * yardstick.p50);
  EXPECT_LE(error.p99, 8 * yardstick.p99);
  EXPECT_LE(error.max, 8 * yardstick.max);
  // Else these were not int8's.
  EXPECT_GT(error.p50, yardstick.p50);
}

// Few rows are quantised by each worker for itself, many together.
TEST_P(CpuRunnerInt8Test, BitsDoNotDependOnChunksThreadsOrPreemption) {
  constexpr int32_t kSequences = 17;
  const auto sequences = RandomSequences(kSequences, 24);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  ASSERT_NE(nullptr, runner);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto expect_same = [&](Runner* other, const DriverOptions& options,
                               const std::string& what) {
    const auto actual = Drive(other, sequences, options);
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      ExpectSame((*expected)[i], (*actual)[i],
                 what + ", sequence " + std::to_string(i));
    }
  };
  DriverOptions small;
  small.chunk = 5;
  small.token_from_last_step = true;
  expect_same(runner.get(), small, "chunks of 5");
  DriverOptions preempted;
  preempted.chunk = 60;
  preempted.preempt_every = 7;
  expect_same(runner.get(), preempted, "preempted");
  const auto threads = MakeRunner(kSequences, kLongestPrompt + 16, 3);
  ASSERT_NE(nullptr, threads);
  expect_same(threads.get(), {}, "three threads");
}

INSTANTIATE_TEST_SUITE_P(All, CpuRunnerInt8Test, AllFamilies(), &NameOfFamily);

}  // namespace
}  // namespace descant
