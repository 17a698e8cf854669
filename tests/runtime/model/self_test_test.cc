// The self-test with the CPU runner and its kernels: it passes where all is
// well, and names what is not.
#include "runtime/model/self_test.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/groups.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/cpu_self_test.h"
#include "tests/runtime/kernels/kernels_fixture.h"
#include "tests/runtime/model/self_test_layers.h"

namespace descant {
namespace {

using kernels::CpuIsa;

class SelfTestOfModels
    : public testing::TestWithParam<std::tuple<const char*, WeightType>> {};

TEST_P(SelfTestOfModels, EveryLayerIsWithinItsBound) {
  const auto [name, weights] = GetParam();
  const auto model = LoadTinyModel(name);
  ASSERT_NE(nullptr, model);
  const auto checks = ChecksOfLayers(model, weights, &MakeCpuRunner);
  EXPECT_EQ(checks.size(), size_t(model->config.num_layers) + 1);
  ExpectAllOk(checks);
}

INSTANTIATE_TEST_SUITE_P(All, SelfTestOfModels,
                         testing::Combine(testing::ValuesIn(kGoldenModels),
                                          testing::Values(WeightType::kBf16,
                                                          WeightType::kInt8,
                                                          WeightType::kInt4)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::string(
                                      WeightTypeName(std::get<1>(info.param)));
                         });

TEST(SelfTestTest, TheDemoModelPasses) {
  const auto loaded =
      LoadModel(DepsPath("models/SmolLM2-135M-Instruct.Q4_1.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ExpectAllOk(ChecksOfLayers(loaded->model, WeightType::kBf16, &MakeCpuRunner));
}

TEST(SelfTestTest, NamesTheLayerWhoseWeightDiffers) {
  const auto model = LoadTinyModel("tiny_gemma3");
  ASSERT_NE(nullptr, model);
  for (const WeightKind kind :
       {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue,
        WeightKind::kAttentionOut, WeightKind::kGate, WeightKind::kUp,
        WeightKind::kDown}) {
    for (const WeightType weights : {WeightType::kBf16, WeightType::kInt8}) {
      const auto checks = ChecksOfLayers(
          model, weights, WithExchangedRows(&MakeCpuRunner, "layer 1", kind));
      EXPECT_EQ(FailedOf(checks), std::vector<std::string>{"layer 1"})
          << static_cast<int>(kind) << " " << WeightTypeName(weights);
    }
  }
  const auto checks =
      ChecksOfLayers(model, WeightType::kBf16,
                     WithExchangedRows(&MakeCpuRunner, "embedding and head",
                                       WeightKind::kHead));
  EXPECT_EQ(FailedOf(checks), std::vector<std::string>{"embedding and head"});
}

TEST(SelfTestTest, ARunnerThatCannotBeMadeIsAFailureOfItsLayer) {
  const auto model = LoadTinyModel("tiny_llama");
  ASSERT_NE(nullptr, model);
  const auto checks = ChecksOfLayers(
      model, WeightType::kBf16,
      [](std::shared_ptr<const Model> one, const RunnerOptions& options)
          -> absl::StatusOr<std::unique_ptr<Runner>> {
        if (one->name == "layer 0") return absl::InternalError("no device");
        return MakeCpuRunner(std::move(one), options);
      });
  ASSERT_EQ(FailedOf(checks), std::vector<std::string>{"layer 0"});
  EXPECT_EQ(checks[0].status.message(), "no device");
}

std::vector<SelfTestCheck> ChecksOfKernels(const kernels::CpuKernels& table) {
  std::vector<SelfTestCheck> checks;
  TestCpuKernels(table,
                 [&](const SelfTestCheck& check) { checks.push_back(check); });
  return checks;
}

class SelfTestOfKernels : public kernels::KernelsTest {
 protected:
  // What is found where `change` was made to the table.
  template <typename Change>
  std::vector<std::string> FailedAfter(const Change& change) {
    kernels::CpuKernels table = *kernels_;
    kernels::GroupKernels groups = *table.groups;
    table.groups = &groups;
    change(&table, &groups);
    return FailedOf(ChecksOfKernels(table));
  }
  // The same where one of LoRA's kernels, of `type`, does nothing.
  template <typename Kernel>
  std::vector<std::string> FailedWithoutLora(
      const kernels::LoraKernels* kernels::CpuKernels::*type,
      Kernel kernels::LoraKernels::*kernel) {
    kernels::LoraKernels lora = *(kernels_->*type);
    Nothing(&(lora.*kernel));
    return FailedAfter([&](kernels::CpuKernels* table, kernels::GroupKernels*) {
      table->*type = &lora;
    });
  }
  template <typename Result, typename... Args>
  static void Nothing(Result (**kernel)(Args...)) {
    *kernel = [](Args...) -> Result {};
  }
};

TEST_P(SelfTestOfKernels, EveryKernelIsWithinItsBound) {
  ExpectAllOk(ChecksOfKernels(*kernels_));
}

// Each kernel in turn does nothing.
TEST_P(SelfTestOfKernels, NamesTheKernelThatIsWrong) {
  using kernels::CpuKernels;
  using kernels::GroupKernels;
  using Names = std::vector<std::string>;
#define EXPECT_FOUND(member, name)                             \
  EXPECT_EQ(FailedAfter([](CpuKernels* table, GroupKernels*) { \
              Nothing(&table->member);                         \
            }),                                                \
            Names{name})
  EXPECT_FOUND(gemm, "kernel gemm");
  EXPECT_FOUND(rms_norm, "kernel rms_norm");
  EXPECT_FOUND(layer_norm, "kernel layer_norm");
  EXPECT_FOUND(add_rms_norm, "kernel add_rms_norm");
  EXPECT_FOUND(head_norm, "kernel head_norm");
  EXPECT_FOUND(residual_add, "kernel residual_add");
  EXPECT_FOUND(bias_add, "kernel bias_add");
  EXPECT_FOUND(soft_cap, "kernel soft_cap");
  EXPECT_FOUND(silu_mul, "kernel silu_mul");
  EXPECT_FOUND(gelu_mul, "kernel gelu_mul");
  EXPECT_FOUND(silu, "kernel silu");
  EXPECT_FOUND(gelu, "kernel gelu");
  EXPECT_FOUND(rope, "kernel rope");
  EXPECT_FOUND(to_bf16, "kernel to_bf16");
  EXPECT_FOUND(attention, "kernel attention");
  EXPECT_FOUND(int8.gemm, "kernel int8 gemm");
  EXPECT_FOUND(int8.quantise, "kernel int8 quantise");
  EXPECT_FOUND(int8.rms_norm, "kernel int8 rms_norm");
  EXPECT_FOUND(int8.layer_norm, "kernel int8 layer_norm");
  using Lora = kernels::LoraKernels;
  EXPECT_EQ(FailedWithoutLora(&CpuKernels::lora, &Lora::shrink),
            Names{"kernel shrink"});
  EXPECT_EQ(FailedWithoutLora(&CpuKernels::lora, &Lora::expand),
            Names{"kernel expand"});
  EXPECT_EQ(FailedWithoutLora(&CpuKernels::lora_int8, &Lora::shrink),
            Names{"kernel shrink of int8"});
  EXPECT_EQ(FailedWithoutLora(&CpuKernels::lora_int8, &Lora::expand),
            Names{"kernel expand of int8"});
  if (kernels_->attention_part != nullptr) {
    EXPECT_FOUND(attention_part, "kernel attention in parts");
    EXPECT_FOUND(attention_merge, "kernel attention in parts");
  }
  if (kernels_->gemm_beside != nullptr) {
    EXPECT_FOUND(gemm_beside, "kernel gemm_beside");
  }
#undef EXPECT_FOUND
  const Names formats = {"k4", "k4Min", "k8"};
  for (int32_t i = 0; i < kernels::kGroupFormats; ++i) {
    EXPECT_EQ(FailedAfter([i](CpuKernels*, GroupKernels* groups) {
                Nothing(&groups->expand[i]);
              }),
              Names{"kernel expand of " + formats[i] + " groups"});
    if (kernels_->groups->fused_rows == 0) continue;
    EXPECT_EQ(FailedAfter([i](CpuKernels*, GroupKernels* groups) {
                Nothing(&groups->gemm[i]);
              }),
              Names{"kernel gemm of " + formats[i] + " groups"});
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, SelfTestOfKernels,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(kernels::CpuIsaName(info.param));
                         });

TEST(SelfTestTest, TestsTheKernelsInUse) {
  std::vector<SelfTestCheck> checks;
  TestCpuKernelsInUse(
      [&](const SelfTestCheck& check) { checks.push_back(check); });
  EXPECT_GT(checks.size(), 20u);
  ExpectAllOk(checks);
  setenv("DESCANT_CPU_ISA", "sse9", 1);
  checks.clear();
  TestCpuKernelsInUse(
      [&](const SelfTestCheck& check) { checks.push_back(check); });
  EXPECT_EQ(FailedOf(checks), std::vector<std::string>{"instruction set"});
  unsetenv("DESCANT_CPU_ISA");
}

}  // namespace
}  // namespace descant
