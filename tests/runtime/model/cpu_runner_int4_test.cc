// int4 weights in the CPU runner, bit for bit: a GGUF file whose tensors are
// groups already computes what its bf16 load computes, and every family from
// Hugging Face what a bf16 load of the quantised values computes. On every
// instruction set that this machine has.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/groups.h"
#include "runtime/model/group_quantize.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace descant {
namespace {

using kernels::CpuIsa;
using kernels::GroupFormat;

// Matrices by the values that their groups have.
class QuantizedSource final : public WeightSource {
 public:
  QuantizedSource(std::shared_ptr<const WeightSource> inner,
                  const ModelConfig& config)
      : inner_(std::move(inner)), config_(config) {}

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    std::vector<float> values(out.size());
    const absl::Status status =
        ReadFp32(kind, layer, row_begin, absl::MakeSpan(values));
    for (size_t i = 0; i < out.size(); ++i) out[i] = ToBFloat16(values[i]);
    return status;
  }

  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    const absl::Status status = inner_->ReadFp32(kind, layer, row_begin, out);
    const WeightShape shape = ShapeOf(config_, kind);
    if (!status.ok() || shape.rows == 1 || kind == WeightKind::kEmbedding ||
        kind == WeightKind::kPositionEmbedding) {
      return status;
    }
    const GroupFormat format =
        kind == WeightKind::kHead ? GroupFormat::k8 : GroupFormat::k4Min;
    const int64_t k = shape.columns;
    GroupCodes codes;
    for (size_t first = 0; first < out.size(); first += k) {
      QuantizeRow(format, out.subspan(first, k), &codes);
      std::vector<uint8_t> block(kernels::GroupBlockBytes(format, (k + 1) / 2));
      kernels::PackGroupRow(format, codes.row(), k, 0, block.data());
      for (int64_t i = 0; i < k; ++i) {
        out[first + i] = kernels::UnpackGroup(format, block.data(), 0, i);
      }
    }
    return status;
  }

 private:
  const std::shared_ptr<const WeightSource> inner_;
  const ModelConfig config_;
};

class CpuRunnerInt4Test
    : public CpuRunnerFixture,
      public testing::WithParamInterface<std::tuple<CpuIsa, const char*>> {
 protected:
  void SetUp() override {
    const CpuIsa isa = std::get<0>(GetParam());
    if (isa > kernels::DetectCpuIsa()) GTEST_SKIP() << "not on this machine";
    setenv("DESCANT_CPU_ISA", std::string(kernels::CpuIsaName(isa)).c_str(), 1);
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
};

TEST_P(CpuRunnerInt4Test, ComputesWithTheQuantisedValues) {
  constexpr int32_t kSequences = 9;
  Load(std::string("tiny_") + std::get<1>(GetParam()));
  const auto sequences = RandomSequences(kSequences, 29);
  const std::shared_ptr<const Model> original = model_;

  auto quantised = std::make_shared<Model>(*original);
  quantised->weights =
      std::make_shared<QuantizedSource>(original->weights, original->config);
  model_ = quantised;
  const auto oracle = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  ASSERT_NE(nullptr, oracle);
  const auto expected = Drive(oracle.get(), sequences);
  ASSERT_TRUE(expected.ok()) << expected.status();

  model_ = original;
  weights_ = WeightType::kInt4;
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  ASSERT_NE(nullptr, runner);
  EXPECT_NE(std::string::npos, runner->Describe().find("int4 weights"));
  ExpectAllSame(*expected, runner.get(), sequences, {}, "together");
  DriverOptions chunked;
  chunked.chunk = 37;
  chunked.preempt_every = 7;
  ExpectAllSame(*expected, runner.get(), sequences, chunked, "preempted");
  for (int32_t i = 0; i < 5; ++i) {
    ExpectAllSame({(*expected)[i]}, runner.get(), {sequences[i]}, {}, "alone");
  }
  const auto threads = MakeRunner(kSequences, kLongestPrompt + 16, 3);
  ASSERT_NE(nullptr, threads);
  DriverOptions one;
  one.chunk = 1;
  ExpectAllSame(*expected, threads.get(), sequences, one, "three threads");
}

INSTANTIATE_TEST_SUITE_P(
    All, CpuRunnerInt4Test,
    testing::Combine(testing::Values(CpuIsa::kAmx, CpuIsa::kAvx512,
                                     CpuIsa::kAvx2),
                     testing::Values("llama", "llama_untied_sharded", "qwen2",
                                     "gemma2", "phi3", "gpt2")),
    [](const auto& info) {
      return std::string(kernels::CpuIsaName(std::get<0>(info.param))) + "_" +
             std::get<1>(info.param);
    });

// The demo file is Q4_1 with a Q8_0 head: nothing of it changes.
TEST(CpuRunnerInt4GgufTest, ComputesTheBitsOfABf16Load) {
  const auto loaded =
      LoadModel(DepsPath("models/SmolLM2-135M-Instruct.Q4_1.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::vector<DrivenSequence> sequences(7);
  std::mt19937 random(31);
  for (DrivenSequence& sequence : sequences) {
    sequence.prompt.resize(1 + random() % 30);
    for (int32_t& token : sequence.prompt) {
      token = static_cast<int32_t>(random() % 40000);
    }
    sequence.sampling.max_tokens = 3;
    sequence.sampling.temperature = 0;
    sequence.sampling.top_logprobs = 5;
  }
  std::vector<std::vector<DrivenResult>> results;
  for (const WeightType type : {WeightType::kBf16, WeightType::kInt4}) {
    RunnerOptions options;
    options.limits = DriverLimits(7, 64, 1);
    options.adapter_bytes = 1 << 20;
    options.weights = type;
    const auto runner = MakeCpuRunner(loaded->model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    auto together = Drive(runner->get(), sequences);
    ASSERT_TRUE(together.ok()) << together.status();
    results.push_back(*std::move(together));
    auto alone = Drive(runner->get(), {sequences[3]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    results.push_back(*std::move(alone));
  }
  for (int i = 0; i < 7; ++i) ExpectSame(results[0][i], results[2][i], "all");
  ExpectSame(results[0][3], results[1][0], "bf16 alone");
  ExpectSame(results[0][3], results[3][0], "int4 alone");
}

}  // namespace
}  // namespace descant
