// Merged weights of the CPU runner: on every family's tiny model with its
// golden adapters and every instruction set of this machine, against the
// stored answers of Transformers + PEFT in fp32, against a model that has the
// adapter in its weights, and beside the unmerged computation.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "runtime/model/cpu_runner.h"
#include "runtime/model/merged_weight_source.h"
#include "tests/runtime/model/cpu_runner_families.h"
#include "tests/runtime/model/golden_errors.h"

namespace descant {
namespace {

using Merged = std::shared_ptr<const MergedWeights>;

class CpuRunnerMergeTest : public CpuRunnerFamiliesTest {
 protected:
  static std::string Name() {
    return std::string("tiny_") + std::get<1>(GetParam());
  }

  std::unique_ptr<CpuRunner> Make(std::shared_ptr<const Model> model) {
    const auto sequences = static_cast<int32_t>(golden_.cases.size());
    RunnerOptions options;
    options.limits = DriverLimits(sequences, GoldenLength(),
                                  static_cast<int32_t>(adapters_.size()));
    options.threads = 2;
    options.weights = weights_;
    auto runner = CpuRunner::Create(std::move(model), options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    return runner.ok() ? *std::move(runner) : nullptr;
  }

  // As the registry has it.
  static Adapter WithoutTensors(Adapter adapter) {
    adapter.modules.clear();
    return adapter;
  }

  Merged Merge(const Runner& runner, int32_t slot) {
    auto merged = runner.MergeAdapter(adapters_[slot]);
    EXPECT_TRUE(merged.ok()) << merged.status();
    if (!merged.ok()) return nullptr;
    EXPECT_EQ(runner.MergedBytes(*adapters_[slot]), (*merged)->bytes());
    EXPECT_GE(runner.MergedBytes(WithoutTensors(*adapters_[slot])),
              (*merged)->bytes());
    EXPECT_LE(runner.MergedBytes(WithoutTensors(*adapters_[slot])),
              runner.MostMergedBytes());
    return *std::move(merged);
  }

  // The golden cases of one adapter, and where they are in the file.
  std::vector<DrivenSequence> CasesOf(int32_t slot,
                                      std::vector<const GoldenCase*>* cases) {
    const auto all = GoldenSequences();
    std::vector<DrivenSequence> mine;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].slot != slot) continue;
      mine.push_back(all[i]);
      cases->push_back(&golden_.cases[i]);
    }
    return mine;
  }

  // A model with the adapter in its weights.
  std::shared_ptr<const Model> ModelWith(int32_t slot) {
    auto model = std::make_shared<Model>(*model_);
    model->weights = std::make_shared<MergedWeightSource>(
        model_->config, model_->weights.get(), adapters_[slot]);
    return model;
  }

  std::vector<DrivenResult> DriveWith(Runner* runner,
                                      std::vector<DrivenSequence> sequences,
                                      const MergedWeights* merged) {
    DriverOptions options;
    options.before_launch = [merged](Batch* batch) { batch->merged = merged; };
    auto results = Drive(runner, sequences, options);
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? *std::move(results) : std::vector<DrivenResult>();
  }
};

TEST_P(CpuRunnerMergeTest, HoldsToTheOracleAndToAModelWithTheAdapterInIt) {
  const auto runner = Make(model_);
  ASSERT_NE(nullptr, runner);
  LoadAdapters(runner.get());
  GoldenErrors errors;
  for (int32_t slot = 0; slot < static_cast<int32_t>(adapters_.size());
       ++slot) {
    SCOPED_TRACE(adapters_[slot]->name);
    std::vector<const GoldenCase*> cases;
    std::vector<DrivenSequence> sequences = CasesOf(slot, &cases);
    if (sequences.empty()) continue;
    const Merged merged = Merge(*runner, slot);
    ASSERT_NE(nullptr, merged);
    const auto results = DriveWith(runner.get(), sequences, merged.get());
    ASSERT_EQ(cases.size(), results.size());
    for (size_t i = 0; i < cases.size(); ++i) errors.Add(*cases[i], results[i]);
    const auto baked = Make(ModelWith(slot));
    ASSERT_NE(nullptr, baked);
    for (DrivenSequence& sequence : sequences) sequence.slot = kNoSlot;
    const auto expected = DriveWith(baked.get(), sequences, nullptr);
    for (size_t i = 0; i < cases.size(); ++i) {
      ExpectSame(expected[i], results[i], "case " + std::to_string(i));
    }
  }
  // Some of the file's cases are the base's own.
  ExpectWithinYardstick(Name(), "merged", &errors, 1.1f, 1.2f);
}

TEST_P(CpuRunnerMergeTest, RehearsalsCompareAndChangeNothing) {
  const auto runner = Make(model_);
  ASSERT_NE(nullptr, runner);
  LoadAdapters(runner.get());
  LogprobDifference difference;
  for (int32_t slot = 0; slot < static_cast<int32_t>(adapters_.size());
       ++slot) {
    SCOPED_TRACE(adapters_[slot]->name);
    std::vector<const GoldenCase*> cases;
    const auto sequences = CasesOf(slot, &cases);
    if (sequences.empty()) continue;
    const auto expected = DriveWith(runner.get(), sequences, nullptr);
    const Merged merged = Merge(*runner, slot);
    ASSERT_NE(nullptr, merged);
    int steps = 0;
    DriverOptions options;
    options.before_launch = [&](Batch* batch) {
      // Without the adapter, too: for measurements.
      ASSERT_TRUE(runner->Rehearse(*batch, nullptr).ok());
      ASSERT_TRUE(runner->Rehearse(*batch, merged.get()).ok());
      ++steps;
    };
    options.after_collect = [&] {
      const auto compared = runner->CompareWithRehearsal();
      ASSERT_TRUE(compared.ok()) << compared.status();
      EXPECT_EQ(absl::StatusCode::kFailedPrecondition,
                runner->CompareWithRehearsal().status().code());
      difference.Add(*compared);
    };
    const auto results = Drive(runner.get(), sequences, options);
    ASSERT_TRUE(results.ok()) << results.status();
    EXPECT_GT(steps, 2);
    for (size_t i = 0; i < cases.size(); ++i) {
      ExpectSame(expected[i], (*results)[i], "case " + std::to_string(i));
    }
  }
  std::printf(
      "%-26s merged beside unmerged: largest %.4f of %d outputs, %d "
      "flips up to %.4f\n",
      Name().c_str(), difference.largest, difference.outputs, difference.flips,
      difference.widest_flip);
  EXPECT_GT(difference.outputs, 0);
  // They are two computations: not the same bits.
  EXPECT_GT(difference.largest, 0);
  EXPECT_TRUE(WithinMergeTolerance(difference));
}

// Merged, unmerged and mixed in turn: the base's weights keep every bit, and
// what is computed without adapters as well.
TEST_P(CpuRunnerMergeTest, TheBaseKeepsEveryBit) {
  const auto runner = Make(model_);
  ASSERT_NE(nullptr, runner);
  LoadAdapters(runner.get());
  const auto packed = runner->weights().packed();
  const std::vector<std::byte> before(packed.begin(), packed.end());
  const auto sequences = GoldenSequences();
  const auto expected = DriveWith(runner.get(), sequences, nullptr);
  for (int cycle = 0; cycle < 20; ++cycle) {
    const int32_t slot = cycle % static_cast<int32_t>(adapters_.size());
    std::vector<const GoldenCase*> cases;
    const auto alone = CasesOf(slot, &cases);
    const Merged merged = Merge(*runner, slot);
    ASSERT_NE(nullptr, merged);
    if (!alone.empty()) DriveWith(runner.get(), alone, merged.get());
  }
  const auto after = DriveWith(runner.get(), sequences, nullptr);
  for (size_t i = 0; i < sequences.size(); ++i) {
    ExpectSame(expected[i], after[i], "case " + std::to_string(i));
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), packed.begin()));
}

TEST_P(CpuRunnerMergeTest, QuantisedWeightsAreNotMerged) {
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4}) {
    weights_ = type;
    const auto runner = Make(model_);
    ASSERT_NE(nullptr, runner);
    const absl::Status why = runner->can_merge();
    EXPECT_EQ(absl::StatusCode::kFailedPrecondition, why.code());
    EXPECT_EQ(why, runner->MergeAdapter(adapters_[0]).status());
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuRunnerMergeTest, AllFamilies(), NameOfFamily);

}  // namespace
}  // namespace descant
