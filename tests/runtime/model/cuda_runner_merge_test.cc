// Adapters merged into weights of their own, in the CUDA runner with emulated
// kernels: beside a runner that has the merged weights as its base's, and
// beside the adapter on top of the base.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/merged_weight_source.h"
#include "tests/runtime/model/cuda_runner_fixture.h"
#include "tests/runtime/model/merging_runner.h"

namespace descant {
namespace {

class CudaRunnerMergeTest : public CudaRunnerFixture {
 protected:
  std::shared_ptr<const MergedWeights> Merge(const Runner& runner,
                                             int32_t slot) {
    auto merged = runner.MergeAdapter(adapters_[slot]);
    EXPECT_TRUE(merged.ok()) << merged.status();
    if (!merged.ok()) return nullptr;
    EXPECT_EQ((*merged)->bytes(), runner.MergedBytes(*adapters_[slot]));
    return *std::move(merged);
  }

  // Over the model that has the adapter in its weights.
  std::unique_ptr<CudaRunner> MakeRunnerOfMerged(
      int32_t slot, const BatchLimits& limits,
      kernels::HalfType half = kernels::HalfType::kBf16) {
    auto merged = std::make_shared<Model>(*model_);
    merged->weights = std::make_shared<MergedWeightSource>(
        model_->config, model_->weights.get(), adapters_[slot]);
    RunnerOptions options;
    options.limits = limits;
    options.adapter_bytes = uint64_t{1} << 20;
    options.kv_bytes = uint64_t{16} << 20;
    auto runner =
        CudaRunner::Create(std::move(merged), options, MakeHostDevice(half));
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }

  // The golden case of an adapter's slot, with as many log-probabilities as the
  // device gives.
  std::vector<DrivenSequence> SequencesOf(int32_t slot) const {
    std::vector<DrivenSequence> of_slot;
    for (const DrivenSequence& sequence : CudaGoldenSequences()) {
      if (sequence.slot == slot) of_slot.push_back(sequence);
    }
    return of_slot;
  }

  static std::vector<DrivenSequence> WithoutAdapter(
      std::vector<DrivenSequence> sequences) {
    for (DrivenSequence& sequence : sequences) sequence.slot = kNoSlot;
    return sequences;
  }

  static constexpr int32_t kTokens = 3;

  // Of one length, so that shapes come again: the driver's steps hold one
  // decode of each.
  std::vector<DrivenSequence> AlikeSequences(const std::vector<int32_t>& slots,
                                             uint32_t seed) {
    auto sequences = RandomSequences(static_cast<int32_t>(slots.size()), seed);
    for (size_t i = 0; i < slots.size(); ++i) {
      sequences[i].slot = slots[i];
      sequences[i].prompt.resize(kMinChunkRows + 2, 1);
      sequences[i].sampling.max_tokens = kTokens;
    }
    return sequences;
  }
};

class CudaRunnerMergeFamilyTest
    : public CudaRunnerMergeTest,
      public testing::WithParamInterface<const char*> {};

TEST_P(CudaRunnerMergeFamilyTest, MergedIsTheModelThatHasTheAdapter) {
  Load(GetParam());
  KeepShortCases();
  const auto runner = MakeCudaRunner(1, GoldenLength());
  ASSERT_NE(nullptr, runner);
  MergingRunner merging(runner.get());
  LogprobDifference all;
  const int32_t stride = std::getenv("DESCANT_CUDA_GOLDEN") != nullptr ? 1 : 5;
  for (int32_t slot = 0; slot < static_cast<int32_t>(adapters_.size());
       slot += stride) {
    const auto sequences = SequencesOf(slot);
    if (sequences.empty()) continue;
    const auto of_merged = MakeRunnerOfMerged(slot, runner->limits());
    ASSERT_NE(nullptr, of_merged);
    const auto expected = Drive(of_merged.get(), WithoutAdapter(sequences));
    ASSERT_TRUE(expected.ok()) << expected.status();
    merging.by_slot[slot] = Merge(*runner, slot);
    ASSERT_NE(merging.by_slot[slot], nullptr);
    merging.only_rehearses = false;
    const auto actual = Drive(&merging, sequences);
    ASSERT_TRUE(actual.ok()) << actual.status();
    merging.only_rehearses = true;
    merging.difference = {};
    ASSERT_TRUE(Drive(&merging, sequences).ok());
    EXPECT_TRUE(WithinMergeTolerance(merging.difference)) << "slot " << slot;
    all.Add(merging.difference);
    merging.by_slot.clear();
    for (size_t i = 0; i < sequences.size(); ++i) {
      ExpectSame((*expected)[i], (*actual)[i], "slot " + std::to_string(slot));
    }
  }
  EXPECT_GT(merging.merged_steps, 0);
  EXPECT_GT(all.outputs, 0);
  std::printf(
      "%-26s merged beside unmerged: %d outputs, largest %.4f, %d "
      "flips up to a gap of %.4f\n",
      GetParam(), all.outputs, all.largest, all.flips, all.widest_flip);
}

INSTANTIATE_TEST_SUITE_P(All, CudaRunnerMergeFamilyTest,
                         testing::ValuesIn(kGoldenModels),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_F(CudaRunnerMergeTest, Fp16IsRoundedOnceFromTheSum) {
  Load("tiny_phi3");
  KeepShortCases();
  constexpr int32_t kSlot = 8;
  constexpr auto kHalf = kernels::HalfType::kFp16;
  const auto sequences = SequencesOf(kSlot);
  const auto runner = MakeCudaRunner(static_cast<int32_t>(sequences.size()),
                                     GoldenLength(), kHalf);
  ASSERT_NE(nullptr, runner);
  const auto of_merged = MakeRunnerOfMerged(kSlot, runner->limits(), kHalf);
  ASSERT_NE(nullptr, of_merged);
  MergingRunner merging(runner.get());
  merging.by_slot[kSlot] = Merge(*runner, kSlot);
  const auto expected = Drive(of_merged.get(), WithoutAdapter(sequences));
  const auto actual = Drive(&merging, sequences);
  ASSERT_TRUE(expected.ok() && actual.ok());
  for (size_t i = 0; i < sequences.size(); ++i) {
    ExpectSame((*expected)[i], (*actual)[i], std::to_string(i));
  }
}

// Of the base, of one adapter merged and of another one, mixed: each with
// graphs of its own, that are replayed for the others' tokens.
TEST_F(CudaRunnerMergeTest, GraphsOfBothWeightsAlternate) {
  Load("tiny_llama");
  constexpr int32_t kLength = 64;
  const std::vector<std::vector<int32_t>> kinds = {
      {0, 0}, {-1, -1}, {1, 1}, {-1, 2}, {0, 1}};
  const auto runner = MakeCudaRunner(2, kLength);
  ASSERT_NE(nullptr, runner);
  MergingRunner merging(runner.get());
  for (const int32_t slot : {0, 1}) {
    merging.by_slot[slot] = Merge(*runner, slot);
  }
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    for (const auto& slots : kinds) {
      const auto sequences = AlikeSequences(slots, seed);
      const auto fresh = MakeCudaRunner(2, kLength);
      MergingRunner fresh_merging(fresh.get());
      for (const int32_t slot : {0, 1}) {
        fresh_merging.by_slot[slot] = Merge(*fresh, slot);
      }
      const DriverOptions options = {.chunk = kMinChunkRows};
      const auto expected = Drive(&fresh_merging, sequences, options);
      const auto actual = Drive(&merging, sequences, options);
      ASSERT_TRUE(expected.ok()) << expected.status();
      ASSERT_TRUE(actual.ok()) << actual.status();
      for (size_t i = 0; i < sequences.size(); ++i) {
        ExpectSame((*expected)[i], (*actual)[i], std::to_string(i));
      }
    }
  }
  EXPECT_GT(merging.merged_steps, 10);
  EXPECT_GT(merging.other_steps, 10);
  EXPECT_GT(runner->step_kinds().graph, 10u);
  EXPECT_GT(runner->step_kinds().piecewise, 0u);
}

TEST_F(CudaRunnerMergeTest, RehearsalsChangeNothing) {
  Load("tiny_llama");
  const auto runner = MakeCudaRunner(2, 64);
  const auto quiet = MakeCudaRunner(2, 64);
  ASSERT_NE(nullptr, runner);
  ASSERT_NE(nullptr, quiet);
  MergingRunner rehearsing(runner.get());
  rehearsing.only_rehearses = true;
  for (const int32_t slot : {0, 1}) {
    rehearsing.by_slot[slot] = Merge(*runner, slot);
  }
  for (const auto& slots :
       std::vector<std::vector<int32_t>>{{0, 0}, {1, 1}, {-1, 1}, {0, 0}}) {
    const auto sequences = AlikeSequences(slots, 5);
    const DriverOptions options = {.chunk = 7};
    const auto expected = Drive(quiet.get(), sequences, options);
    const auto actual = Drive(&rehearsing, sequences, options);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (size_t i = 0; i < sequences.size(); ++i) {
      ExpectSame((*expected)[i], (*actual)[i], std::to_string(i));
    }
  }
  EXPECT_GT(rehearsing.difference.outputs, 0);
  EXPECT_GT(rehearsing.difference.largest, 0);
  EXPECT_TRUE(WithinMergeTolerance(rehearsing.difference));
}

// Of weights that are another adapter's the comparison is wide.
TEST_F(CudaRunnerMergeTest, AForeignAdapterIsSeen) {
  Load("tiny_llama");
  const auto runner = MakeCudaRunner(2, 64);
  ASSERT_NE(nullptr, runner);
  EXPECT_EQ(runner->CompareWithRehearsal().status().code(),
            absl::StatusCode::kFailedPrecondition);
  MergingRunner rehearsing(runner.get());
  rehearsing.only_rehearses = true;
  rehearsing.by_slot[2] = Merge(*runner, 1);
  ASSERT_TRUE(Drive(&rehearsing, AlikeSequences({2, 2}, 5)).ok());
  EXPECT_EQ(rehearsing.difference.outputs, 2 * kTokens);
  EXPECT_TRUE(rehearsing.difference.finite);
  EXPECT_FALSE(WithinMergeTolerance(rehearsing.difference));
  // Only of the step that comes next.
  ASSERT_TRUE(Drive(runner.get(), AlikeSequences({2, 2}, 5)).ok());
  EXPECT_FALSE(runner->CompareWithRehearsal().ok());
}

}  // namespace
}  // namespace descant
