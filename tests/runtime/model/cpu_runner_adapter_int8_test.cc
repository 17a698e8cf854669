// The CPU runner with int8 adapters on every family's tiny model: against the
// stored answers of Transformers + PEFT in fp32, beside the same runner with
// bf16 adapters, and against itself bit for bit.
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

class CpuRunnerAdapterInt8Test : public CpuRunnerFamiliesTest {
 protected:
  CpuRunnerAdapterInt8Test() { adapter_weights_ = AdapterWeightType::kInt8; }
};

// A value's error is up to half a 127th of the largest of its row, instead of
// a 512th of itself; and what an adapter adds is a part of the result.
TEST_P(CpuRunnerAdapterInt8Test, ErrorIsBoundedMixedAndTheSameAlone) {
  const auto sequences = GoldenSequences();
  const int32_t count = static_cast<int32_t>(sequences.size());
  const auto runner = MakeRunner(count, GoldenLength(), 2);
  ASSERT_NE(nullptr, runner);
  EXPECT_NE(std::string::npos, runner->Describe().find("int8 adapters"));
  const auto mixed = Drive(runner.get(), sequences);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  adapter_weights_ = AdapterWeightType::kBf16;
  const auto beside = MakeRunner(count, GoldenLength(), 2);
  ASSERT_NE(nullptr, beside);
  const auto bf16 = Drive(beside.get(), sequences);
  ASSERT_TRUE(bf16.ok()) << bf16.status();
  bool differ = false;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::string what = "case " + std::to_string(i);
    EXPECT_FALSE((*mixed)[i].numeric_fault);
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*alone)[0], (*mixed)[i], what);
    // Nothing else is int8.
    if (sequences[i].slot == kNoSlot) {
      ExpectSame((*bf16)[i], (*mixed)[i], what + " without an adapter");
    } else {
      differ |= (*bf16)[i].logprobs != (*mixed)[i].logprobs;
    }
  }
  EXPECT_TRUE(differ);
  const ErrorQuantiles error = QuantilesOf(golden_, *mixed);
  const ErrorQuantiles yardstick = QuantilesOf(golden_, *bf16);
  std::printf(
      "%-22s %-8s int8 adapters: p50 %.4f p99 %.4f max %.4f (bf16: p50 %.4f "
      "p99 %.4f max %.4f)\n",
      std::get<1>(GetParam()), runner->Describe().substr(4, 6).c_str(),
      error.p50, error.p99, error.max, yardstick.p50, yardstick.p99,
      yardstick.max);
  EXPECT_LE(error.p50, 2 * yardstick.p50);
  EXPECT_LE(error.p99, 2 * yardstick.p99);
  EXPECT_LE(error.max, 3 * yardstick.max);
}

INSTANTIATE_TEST_SUITE_P(All, CpuRunnerAdapterInt8Test, AllFamilies(),
                         &NameOfFamily);

}  // namespace
}  // namespace descant
