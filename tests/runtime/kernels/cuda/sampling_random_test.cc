// Sampling on the device against the CPU's sampler: the same tokens, but where
// a random number or a threshold is on a border.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/runtime/kernels/cuda/sampling_cases.h"

namespace descant::kernels::cuda_emulated {
namespace {

void ExpectRandomCasesLikeCpu(int32_t vocab, int32_t launches) {
  std::mt19937_64 random(static_cast<uint64_t>(vocab));
  int32_t differences = 0;
  for (int32_t seed = 0; seed < launches; ++seed) {
    cuda_emulation::SetSeed(static_cast<uint64_t>(seed));
    std::vector<Case> cases;
    Launch launch(vocab);
    for (int32_t i = 0; i < 8; ++i) {
      cases.push_back(RandomCase(vocab, 1 + seed % 4, random));
      launch.Add(cases.back());
    }
    differences += CountDifferences(cases, launch.Run());
    ASSERT_FALSE(testing::Test::HasFailure()) << "launch " << seed;
  }
  // A border is hit by one random number in 10^5; sums differ by far less.
  EXPECT_LE(differences, 1 + launches / 100);
}

TEST(SamplingRandomTest, RandomCasesAreLikeOnTheCpu) {
  ExpectRandomCasesLikeCpu(50, 24);
  ExpectRandomCasesLikeCpu(257, 24);
  ExpectRandomCasesLikeCpu(1000, 24);
  ExpectRandomCasesLikeCpu(5003, 10);
}

// Around quads, chunks and what a block reads at once.
TEST(SamplingRandomTest, EverySizeOfVocabulary) {
  for (const int32_t vocab :
       {1, 2, 3, 4, 5, 31, 127, 128, 129, 131, 2047, 2049, 4095, 4096, 4099}) {
    ExpectRandomCasesLikeCpu(vocab, 1);
  }
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
