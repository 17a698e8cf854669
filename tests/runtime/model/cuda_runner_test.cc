// The CUDA runner, its kernels emulated: beside the CPU's oracle on random
// batches, and its graphs beside launches one by one.
//
// DESCANT_CUDA_SEEDS: how many batches; 100 without it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/runtime/model/cuda_runner_fixture.h"
#include "tests/testing/cuda_emulation/emulated_launch.h"

namespace descant {
namespace {

// Log-probabilities of 16-bit activations beside those of fp32; the golden
// tests hold them to a measured yardstick.
constexpr float kTolerance = 0.12f;

class CudaRunnerTest : public CudaRunnerFixture {
 protected:
  std::unique_ptr<Runner> MakeReference(int32_t sequences, int32_t length) {
    RunnerOptions options;
    options.limits =
        DriverLimits(sequences, length, static_cast<int32_t>(adapters_.size()));
    auto runner = MakeReferenceRunner(model_, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    LoadAdapters(runner->get());
    return *std::move(runner);
  }

  // A few sequences, short and long prompts, over some of the adapters.
  std::vector<DrivenSequence> FewSequences(uint32_t seed) {
    std::mt19937 random(seed);
    auto sequences = RandomSequences(1 + static_cast<int32_t>(random() % 4),
                                     static_cast<uint32_t>(random()));
    for (DrivenSequence& sequence : sequences) {
      // Most are short: the emulation is slow.
      const size_t most = random() % 8 == 0 ? 40 : 10;
      sequence.prompt.resize(
          std::min<size_t>(sequence.prompt.size(), 1 + random() % most));
      sequence.sampling.temperature = 0;
      sequence.sampling.max_tokens = 1 + static_cast<int32_t>(random() % 2);
      sequence.sampling.top_logprobs = 5;
    }
    return sequences;
  }
};

float LargestError(const DrivenResult& expected, const DrivenResult& actual) {
  float error = 0;
  for (size_t t = 0; t < expected.top.size(); ++t) {
    error = std::max(error, LogprobError(expected.top[t], actual.top[t]));
  }
  return error;
}

int SeedCount() {
  const char* wanted = std::getenv("DESCANT_CUDA_SEEDS");
  return wanted == nullptr ? 100 : std::atoi(wanted);
}

// Prefills, chunks of them beside decodes, decodes alone.
TEST_F(CudaRunnerTest, RandomBatchesAreTheOraclesWithinTolerance) {
  Load("tiny_llama");
  constexpr int32_t kLength = 64;
  const auto cuda = MakeCudaRunner(8, kLength);
  ASSERT_NE(nullptr, cuda);
  const auto reference = MakeReference(8, kLength);
  float worst = 0;
  for (int seed = 1; seed <= SeedCount(); ++seed) {
    cuda_emulation::SetSeed(static_cast<uint64_t>(seed));
    auto sequences = FewSequences(static_cast<uint32_t>(seed));
    const DriverOptions options = {.chunk = 1 + seed % 17};
    const auto expected = Drive(reference.get(), sequences, options);
    ASSERT_TRUE(expected.ok()) << expected.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].forced = (*expected)[i].tokens;
      sequences[i].sampling.top_logprobs = kernels::kMaxSampleTop;
    }
    const auto actual = Drive(cuda.get(), sequences, options);
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_FALSE((*actual)[i].numeric_fault);
      const float error = LargestError((*expected)[i], (*actual)[i]);
      worst = std::max(worst, error);
      EXPECT_LE(error, kTolerance) << "seed " << seed << ", sequence " << i;
    }
  }
  std::printf("%d seeds: largest error %.4f\n", SeedCount(), worst);
}

TEST_F(CudaRunnerTest, MemoryForKeysAndValuesIsWhatIsLeftOrWhatIsAsked) {
  Load("tiny_llama");
  RunnerOptions options;
  options.limits = DriverLimits(2, 64, 1);
  const auto blocks_with = [&](uint64_t kv_bytes) -> absl::StatusOr<int32_t> {
    options.kv_bytes = kv_bytes;
    auto runner = CudaRunner::Create(model_, options,
                                     MakeHostDevice(kernels::HalfType::kBf16));
    if (!runner.ok()) return runner.status();
    return (*runner)->num_blocks();
  };
  const uint64_t block = CudaKvCache::BlockBytes(model_->config);
  // No more than all sequences can use.
  EXPECT_EQ(*blocks_with(0), options.limits.max_sequences *
                                 options.limits.max_blocks_per_sequence);
  EXPECT_EQ(*blocks_with(3 * block + 1), 3);
  EXPECT_EQ(blocks_with(block - 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The second time a shape comes it is captured, from then on replayed: for
// other tokens, adapters and pages.
TEST_F(CudaRunnerTest, AGraphServesWhateverHasItsShape) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 6;
  constexpr int32_t kLength = 96;
  const auto replaying = MakeCudaRunner(kSequences, kLength);
  ASSERT_NE(nullptr, replaying);
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    auto sequences = RandomSequences(kSequences, seed);
    for (DrivenSequence& sequence : sequences) {
      // Two chunks of one shape, and a last row that samples.
      sequence.prompt.resize(2 * kMinChunkRows + 1, 1);
      sequence.sampling.max_tokens = 4;
    }
    const auto fresh = MakeCudaRunner(kSequences, kLength);
    const auto expected =
        Drive(fresh.get(), sequences, {.chunk = kMinChunkRows});
    ASSERT_TRUE(expected.ok()) << expected.status();
    const auto actual =
        Drive(replaying.get(), sequences, {.chunk = kMinChunkRows});
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (int32_t i = 0; i < kSequences; ++i) {
      ExpectSame((*expected)[i], (*actual)[i], "sequence " + std::to_string(i));
    }
  }
  EXPECT_GT(replaying->step_kinds().graph, 0u);
  // The attention between the pieces is the library's.
  EXPECT_GT(replaying->step_kinds().piecewise, 0u);
  EXPECT_GT(replaying->chunk_counts().chunks, 0u);
}

// Prefill through the library's attention and through our kernel. The golden
// test has the first one's truth, for prompts of one chunk.
class CudaRunnerPrefillTest : public CudaRunnerTest,
                              public testing::WithParamInterface<const char*> {
 protected:
  // Contexts behind the windows, chunks of one and several sequences, those of
  // few rows, and decodes between them.
  std::vector<DrivenSequence> LongSequences() {
    constexpr size_t kLengths[] = {70, 20, 57, 33};
    auto sequences = RandomSequences(std::size(kLengths), 11);
    std::mt19937 random(12);
    for (size_t i = 0; i < sequences.size(); ++i) {
      sequences[i].prompt.clear();
      while (sequences[i].prompt.size() < kLengths[i]) {
        sequences[i].prompt.push_back(
            static_cast<int32_t>(random() % model_->config.vocab_size));
      }
      sequences[i].slot = static_cast<int32_t>(i) - 1;
      sequences[i].sampling.temperature = 0;
      sequences[i].sampling.max_tokens = 2;
      sequences[i].sampling.top_logprobs = kernels::kMaxSampleTop;
    }
    return sequences;
  }

  uint64_t TokenBytes() const {
    const ModelConfig& config = model_->config;
    return uint64_t{4} * config.num_kv_heads * config.head_dim;
  }
};

TEST_P(CudaRunnerPrefillTest, TheLibrarysAttentionIsOurs) {
  Load(GetParam());
  constexpr int32_t kLength = 80;
  constexpr float kSame = 0.03f;
  auto sequences = LongSequences();
  const DriverOptions options = {.chunk = 24};
  const auto own = MakeCudaRunner(static_cast<int32_t>(sequences.size()),
                                  kLength, kernels::HalfType::kBf16, 0);
  ASSERT_NE(nullptr, own);
  const auto expected = Drive(own.get(), sequences, options);
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(own->chunk_counts().chunks, 0u);
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].forced = (*expected)[i].tokens;
  }
  // Without bounds, and so little that groups are split and the longest
  // contexts don't fit.
  constexpr uint64_t kFewTokens = 50;
  const bool capped = model_->config.attention_logit_cap != 0;
  const uint64_t chunks_of[] = {7, 6};
  const uint64_t groups_of[] = {4, 4};
  for (int run = 0; run < (capped ? 1 : 2); ++run) {
    const auto library =
        MakeCudaRunner(static_cast<int32_t>(sequences.size()), kLength,
                       kernels::HalfType::kBf16,
                       run == 0 ? kGatherBytes : kFewTokens * TokenBytes());
    ASSERT_NE(nullptr, library);
    const auto actual = Drive(library.get(), sequences, options);
    ASSERT_TRUE(actual.ok()) << actual.status();
    EXPECT_EQ(library->chunk_counts().chunks, capped ? 0 : chunks_of[run]);
    EXPECT_EQ(library->chunk_counts().groups, capped ? 0 : groups_of[run]);
    float worst = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_FALSE((*actual)[i].numeric_fault);
      worst = std::max(worst, LargestError((*expected)[i], (*actual)[i]));
    }
    EXPECT_LE(worst, kSame) << "run " << run;
    std::printf("%s, run %d: largest difference %.4f\n", GetParam(), run,
                worst);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaRunnerPrefillTest,
                         testing::Values("tiny_llama", "tiny_gpt2",
                                         "tiny_mistral", "tiny_gemma2",
                                         "tiny_gemma3"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_F(CudaRunnerTest, Fp16HoldsTheToleranceToo) {
  Load("tiny_llama");
  KeepShortCases();
  const auto sequences = CudaGoldenSequences();
  const auto runner = MakeCudaRunner(static_cast<int32_t>(sequences.size()),
                                     GoldenLength(), kernels::HalfType::kFp16);
  ASSERT_NE(nullptr, runner);
  const auto results = Drive(runner.get(), sequences);
  ASSERT_TRUE(results.ok()) << results.status();
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (size_t t = 0; t < golden_.cases[i].tokens.size(); ++t) {
      EXPECT_LE(LogprobError(golden_.cases[i].top[t], (*results)[i].top[t]),
                kTolerance)
          << "case " << i;
    }
  }
}

TEST_F(CudaRunnerTest, DecodesOfTheLastStepsTokenAndPreemption) {
  Load("tiny_llama");
  constexpr int32_t kSequences = 4;
  auto sequences = RandomSequences(kSequences, 5);
  for (DrivenSequence& sequence : sequences) sequence.prompt.resize(5);
  const auto runner = MakeCudaRunner(kSequences, 64);
  ASSERT_NE(nullptr, runner);
  const auto expected = Drive(runner.get(), sequences);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto actual =
      Drive(runner.get(), sequences, {.token_from_last_step = true});
  ASSERT_TRUE(actual.ok()) << actual.status();
  for (int32_t i = 0; i < kSequences; ++i) {
    ExpectSame((*expected)[i], (*actual)[i], "sequence " + std::to_string(i));
  }
}

}  // namespace
}  // namespace descant
