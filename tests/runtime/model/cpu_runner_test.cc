// The CPU runner against the reference runner, and against itself bit for bit:
// alone or in any batch, in any chunks, on any number of threads. (Against the
// oracle, and for every family: cpu_runner_golden_test.cc.)
#include "runtime/model/cpu_runner.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/model/model.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace descant {
namespace {

using CpuRunnerTest = CpuRunnerFixture;

TEST_F(CpuRunnerTest, AMixedBatchHasTheBitsOfEachAlone) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 12;
  const auto sequences = RandomSequences(kSequences, 7);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 2);
  const auto together = Drive(runner.get(), sequences);
  ASSERT_TRUE(together.ok()) << together.status();
  for (int32_t i = 0; i < kSequences; ++i) {
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok());
    ExpectSame((*alone)[0], (*together)[i], "sequence " + std::to_string(i));
  }
}

TEST_F(CpuRunnerTest, ChunksAndThreadsChangeNoBit) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 8;
  const auto sequences = RandomSequences(kSequences, 11);
  const auto runner = MakeRunner(kSequences, kLongestPrompt + 16, 1);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok());
  for (const int32_t threads : {1, 2, 3}) {
    const auto other = MakeRunner(kSequences, kLongestPrompt + 16, threads);
    for (const int32_t chunk : {1, 5, 32, 100}) {
      DriverOptions options;
      options.chunk = chunk;
      options.token_from_last_step = chunk == 5;
      const auto actual = Drive(other.get(), sequences, options);
      ASSERT_TRUE(actual.ok());
      for (int32_t i = 0; i < kSequences; ++i) {
        ExpectSame((*expected)[i], (*actual)[i],
                   "threads " + std::to_string(threads) + " chunk " +
                       std::to_string(chunk) + " sequence " +
                       std::to_string(i));
      }
    }
  }
}

TEST_F(CpuRunnerTest, EveryInstructionSetAgreesWithTheReference) {
  Load("tiny_llama");
  const auto sequences = RandomSequences(6, 13);
  auto greedy = sequences;
  for (DrivenSequence& sequence : greedy) sequence.sampling.temperature = 0;
  const auto force = [&](DrivenSequence* sequence) {
    sequence->forced.assign(sequence->sampling.max_tokens, 5);
  };
  for (DrivenSequence& sequence : greedy) force(&sequence);
  RunnerOptions options;
  options.limits = DriverLimits(6, kLongestPrompt + 16,
                                static_cast<int32_t>(adapters_.size()));
  auto reference = MakeReferenceRunner(model_, options);
  ASSERT_TRUE(reference.ok());
  for (size_t slot = 0; slot < adapters_.size(); ++slot) {
    ASSERT_TRUE((*reference)
                    ->LoadAdapter(static_cast<int32_t>(slot), adapters_[slot])
                    .ok());
  }
  const auto expected = Drive(reference->get(), greedy);
  ASSERT_TRUE(expected.ok());
  for (const auto isa : {kernels::CpuIsa::kScalar, kernels::CpuIsa::kAvx2,
                         kernels::CpuIsa::kAvx512, kernels::CpuIsa::kAmx}) {
    if (isa > kernels::DetectCpuIsa()) continue;
    const std::string name(kernels::CpuIsaName(isa));
    setenv("DESCANT_CPU_ISA", name.c_str(), 1);
    const auto runner = MakeRunner(6, kLongestPrompt + 16, 2);
    unsetenv("DESCANT_CPU_ISA");
    ASSERT_NE(nullptr, runner);
    const auto actual = Drive(runner.get(), greedy);
    ASSERT_TRUE(actual.ok());
    for (size_t i = 0; i < greedy.size(); ++i) {
      ASSERT_EQ((*expected)[i].logprobs.size(), (*actual)[i].logprobs.size());
      // Of the likeliest token: its identity may differ at a near tie.
      for (size_t t = 0; t < (*expected)[i].top.size(); ++t) {
        EXPECT_NEAR((*expected)[i].top[t][0].logprob,
                    (*actual)[i].top[t][0].logprob, 0.15f)
            << name << " sequence " << i << " token " << t;
      }
    }
  }
}

// An adapter whose B is not finite: it fails its own sequence alone.
TEST_F(CpuRunnerTest, ANumericFaultStaysInItsSequence) {
  Load("tiny_llama");
  ASSERT_FALSE(adapters_.empty());
  auto broken = std::make_shared<Adapter>(*adapters_[0]);
  const AdapterMatrix& b = broken->modules[0].b;
  const std::vector<float> infinite(int64_t{b.rows} * b.columns,
                                    std::numeric_limits<float>::infinity());
  broken->modules[0].b.dtype = Dtype::kF32;
  broken->modules[0].b.data = infinite.data();
  const std::shared_ptr<const Adapter> sound = adapters_[0];
  adapters_.push_back(broken);

  auto sequences = RandomSequences(6, 17);
  for (DrivenSequence& sequence : sequences) sequence.slot = 0;
  const auto runner = MakeRunner(6, kLongestPrompt + 16, 2);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok());
  sequences[2].slot = static_cast<int32_t>(adapters_.size()) - 1;
  const auto actual = Drive(runner.get(), sequences);
  ASSERT_TRUE(actual.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(i == 2, (*actual)[i].numeric_fault);
    if (i != 2) ExpectSame((*expected)[i], (*actual)[i], "beside a fault");
  }
  // Blocks the broken sequence left behind harm nobody.
  sequences[2].slot = 0;
  const auto after = Drive(runner.get(), sequences);
  ASSERT_TRUE(after.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    ExpectSame((*expected)[i], (*after)[i], "after a fault");
  }
}

// A timer changes no bit, and books every phase that ran, no other.
TEST_F(CpuRunnerTest, PhasesAreTimed) {
  Load("tiny_llama");
  auto sequences = RandomSequences(4, 19);
  for (DrivenSequence& sequence : sequences) sequence.slot = kNoSlot;
  const auto runner = MakeRunner(4, kLongestPrompt + 16, 2);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok());
  auto* cpu = static_cast<CpuRunner*>(runner.get());
  CpuPhaseTimer timer(cpu->workers());
  cpu->SetTimer(&timer);
  const auto timed = Drive(runner.get(), sequences);
  ASSERT_TRUE(timed.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    ExpectSame((*expected)[i], (*timed)[i], "timed");
  }
  for (int32_t i = 0; i < kCpuPhases; ++i) {
    const auto phase = static_cast<CpuPhase>(i);
    if (phase == CpuPhase::kShrink) continue;
    EXPECT_GT(timer.Total(phase).work, 0u) << kCpuPhaseNames[i];
  }
  // Of shrink only the marks between which nothing happens.
  EXPECT_EQ(timer.Total(CpuPhase::kShrink).wait, 0u);
  EXPECT_LT(timer.Total(CpuPhase::kShrink).work,
            timer.Total(CpuPhase::kGateUp).work);
  cpu->SetTimer(nullptr);
  timer.Clear();
  ASSERT_TRUE(Drive(runner.get(), sequences).ok());
  EXPECT_EQ(timer.Total(CpuPhase::kQkv).work, 0u);
}

TEST_F(CpuRunnerTest, AdaptersFillTheArenaAndLeaveIt) {
  Load("tiny_llama");
  RunnerOptions options;
  options.limits = DriverLimits(1, 64, 3);
  options.threads = 1;
  auto measure = MakeCpuRunner(model_, options);
  ASSERT_TRUE(measure.ok());
  const uint64_t bytes = (*measure)->AdapterBytes(*adapters_[0]);
  EXPECT_GT(bytes, 0u);
  options.adapter_bytes = 2 * bytes;
  auto runner = MakeCpuRunner(model_, options);
  ASSERT_TRUE(runner.ok());
  EXPECT_TRUE((*runner)->LoadAdapter(0, adapters_[0]).ok());
  EXPECT_TRUE((*runner)->LoadAdapter(1, adapters_[0]).ok());
  EXPECT_EQ(absl::StatusCode::kResourceExhausted,
            (*runner)->LoadAdapter(2, adapters_[0]).code());
  (*runner)->UnloadAdapter(0);
  EXPECT_TRUE((*runner)->LoadAdapter(2, adapters_[0]).ok());
  EXPECT_TRUE((*runner)->LoadAdapter(1, adapters_[0]).ok());
}

}  // namespace
}  // namespace descant
