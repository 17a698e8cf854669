// A server that does as a MergePolicy says, at the times that a test sets.
#ifndef DESCANT_TESTS_RUNTIME_CORE_MERGE_POLICY_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_CORE_MERGE_POLICY_FIXTURE_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/core/merge_policy.h"

namespace descant {

class MergePolicyFixture : public testing::Test {
 protected:
  // Merged weights that take a second to build, as is guessed at first.
  static constexpr uint64_t kBytes = 500'000'000;
  static constexpr double kStep = 0.020;

  struct Counts {
    int32_t unmerged = 0;
    int32_t merged = 0;
    int32_t measured = 0;
    int32_t checked = 0;
    int32_t builds = 0;
    int32_t drops = 0;
  };

  explicit MergePolicyFixture(uint64_t copies = 4) { SetCopies(copies); }
  void SetCopies(uint64_t copies) {
    policy_ = std::make_unique<MergePolicy>(copies * kBytes);
  }

  static AdapterKey Key(const std::string& name) {
    return AdapterKey("tenant", name);
  }

  // Carries out what is decided; a build ends after `build_seconds_`.
  MergePolicy::Decision Decide() {
    if (build_ends_ > 0 && now_ >= build_ends_) {
      build_ends_ = 0;
      const AdapterKey key = *building_;
      building_.reset();
      if (policy_->BuildEnded(now_, build_seconds_, build_problem_)) {
        held_.insert(key.digest);
      }
    }
    MergePolicy::Decision decision;
    policy_->Decide(now_, &decision);
    for (const AdapterKey& key : decision.drop) {
      EXPECT_EQ(held_.erase(key.digest), 1u) << key.digest << " is not there";
      ++counts_.drops;
    }
    if (decision.build.has_value()) {
      EXPECT_FALSE(building_.has_value());
      ++counts_.builds;
      building_ = decision.build;
      build_ends_ = now_ + build_seconds_;
    }
    EXPECT_LE(policy_->memory_used(), policy_->memory_capacity());
    EXPECT_EQ(policy_->memory_used(),
              (held_.size() + (building_.has_value() ? 1 : 0)) * kBytes);
    return decision;
  }

  // A step of the adapter's own, of which merging saves `gain`.
  MergeStep Step(const std::string& name, double gain, int32_t rows = 8,
                 double step = kStep) {
    Decide();
    const AdapterKey key = Key(name);
    const MergeStep how = policy_->PlanStep(now_, key, kBytes, rows);
    const double merged = step * (1 - gain) * Noise();
    const double unmerged = step * Noise();
    double rehearsal = 0;
    switch (how) {
      case MergeStep::kUnmerged:
        ++counts_.unmerged;
        break;
      case MergeStep::kMerged:
        EXPECT_TRUE(held_.contains(name));
        ++counts_.merged;
        break;
      case MergeStep::kMeasure:
        ++counts_.measured;
        rehearsal = merged;
        break;
      case MergeStep::kCheck:
        EXPECT_TRUE(held_.contains(name));
        ++counts_.checked;
        rehearsal = merged;
        break;
    }
    const double seconds = how == MergeStep::kMerged ? merged : unmerged;
    now_ += seconds + rehearsal;
    policy_->StepTook(now_, key, how, rows, seconds, rehearsal);
    if (how == MergeStep::kCheck &&
        !policy_->CheckEnded(now_, key, check_problem_)) {
      held_.erase(name);
    }
    return how;
  }

  void Steps(const std::string& name, double gain, double seconds) {
    for (const double end = now_ + seconds; now_ < end;) Step(name, gain);
  }

  // Nobody has a step.
  void Wait(double seconds) {
    for (const double end = now_ + seconds; now_ < end; now_ += 0.5) Decide();
  }

  // To merged weights that are in use.
  void Merge(const std::string& name, double gain) {
    for (int i = 0; i < 20'000 && State(name) != MergeState::kMerged; ++i) {
      Step(name, gain);
    }
    ASSERT_EQ(State(name), MergeState::kMerged) << Record(name).reason;
  }

  // Until all that merging took came back.
  void PayOff(const std::string& name) {
    Merge(name, 0.3);
    Steps(name, 0.3, 60);
  }

  MergeRecord Record(const std::string& name) const {
    for (const MergeRecord& record : policy_->Records(now_)) {
      if (record.key == Key(name)) return record;
    }
    return {};
  }
  MergeState State(const std::string& name) const { return Record(name).state; }
  absl::Status SetMode(const std::string& name, MergeMode mode) {
    return policy_->SetMode(now_, Key(name), kBytes, mode);
  }

  double Noise() {
    return 1 + std::uniform_real_distribution<double>(-noise_, noise_)(random_);
  }

  std::unique_ptr<MergePolicy> policy_;
  std::mt19937_64 random_{20261127};
  double now_ = 100;
  double noise_ = 0.03;
  double build_seconds_ = 1;
  double build_ends_ = 0;
  std::optional<AdapterKey> building_;
  std::string build_problem_;
  std::string check_problem_;
  std::set<std::string> held_;  // built weights that the server has
  Counts counts_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_CORE_MERGE_POLICY_FIXTURE_H_
