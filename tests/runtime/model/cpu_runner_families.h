// Tests of the CPU runner on a tiny model of each family, for each instruction
// set that the machine has.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FAMILIES_H_
#define DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FAMILIES_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <tuple>

#include "runtime/kernels/cpu/cpu_features.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace descant {

class CpuRunnerFamiliesTest : public CpuRunnerFixture,
                              public testing::WithParamInterface<
                                  std::tuple<kernels::CpuIsa, const char*>> {
 protected:
  void SetUp() override {
    const kernels::CpuIsa isa = std::get<0>(GetParam());
    if (isa > kernels::DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    setenv("DESCANT_CPU_ISA", std::string(kernels::CpuIsaName(isa)).c_str(), 1);
    Load(std::string("tiny_") + std::get<1>(GetParam()));
  }
  void TearDown() override { unsetenv("DESCANT_CPU_ISA"); }
};

// The highest set first: oneDNN reads its limit, which lower ones set, once.
inline auto AllFamilies() {
  using kernels::CpuIsa;
  return testing::Combine(
      testing::Values(CpuIsa::kAmx, CpuIsa::kAvx512, CpuIsa::kAvx2),
      testing::Values("llama", "llama_untied_sharded", "llama_bias", "mistral",
                      "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"));
}

inline std::string NameOfFamily(
    const testing::TestParamInfo<CpuRunnerFamiliesTest::ParamType>& info) {
  return std::string(kernels::CpuIsaName(std::get<0>(info.param))) + "_" +
         std::get<1>(info.param);
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_CPU_RUNNER_FAMILIES_H_
