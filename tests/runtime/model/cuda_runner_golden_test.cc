// The CUDA runner on every family's tiny model with its 16 adapters of ranks 1
// to 64, its kernels emulated: against the stored answers of Transformers +
// PEFT in fp32. The tolerance is the error that Transformers + PEFT make in
// bf16 on the same data.
//
// DESCANT_CUDA_GOLDEN=all: every case, in minutes a model. Without it, of
// each adapter, a case of at most two pages and some tokens of it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/runtime/model/cuda_runner_fixture.h"
#include "tests/runtime/model/golden_errors.h"

namespace descant {
namespace {

constexpr float kSlack = 1.1f;

class CudaRunnerGoldenTest : public CudaRunnerFixture,
                             public testing::WithParamInterface<const char*> {};

TEST_P(CudaRunnerGoldenTest, ErrorIsWithinTheBf16Yardstick) {
  Load(GetParam());
  if (std::getenv("DESCANT_CUDA_GOLDEN") == nullptr) KeepShortCases();
  const std::vector<DrivenSequence> sequences = CudaGoldenSequences();
  const auto runner =
      MakeCudaRunner(static_cast<int32_t>(sequences.size()), GoldenLength());
  ASSERT_NE(nullptr, runner);
  const auto results = Drive(runner.get(), sequences);
  ASSERT_TRUE(results.ok()) << results.status();
  GoldenErrors errors;
  size_t expected_values = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_FALSE((*results)[i].numeric_fault);
    errors.Add(golden_.cases[i], (*results)[i]);
    expected_values += 5 * golden_.cases[i].tokens.size();
  }
  ASSERT_EQ(expected_values, errors.values.size());
  ExpectWithinYardstick(GetParam(), "cuda", &errors, kSlack);
}

INSTANTIATE_TEST_SUITE_P(All, CudaRunnerGoldenTest,
                         testing::ValuesIn(kGoldenModels),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace descant
