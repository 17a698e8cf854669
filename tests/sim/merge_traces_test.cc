// MergePolicy on traces of a few minutes: against no merging, and against the
// best choice in hindsight.
//
// DESCANT_MERGE_SEEDS=n runs n seeds of each setting.
#include "tests/sim/merge_traces.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

constexpr double kGains[] = {0, 0.02, 0.05, 0.1, 0.2, 0.3};
constexpr double kBuilds[] = {0.1, 0.5, 2, 5};
constexpr int32_t kCopies[] = {1, 2, 8};

int32_t Seeds() {
  const char* text = std::getenv("DESCANT_MERGE_SEEDS");
  int32_t seeds = 2;
  if (text != nullptr && !absl::SimpleAtoi(text, &seeds)) seeds = 2;
  return seeds;
}

// Of all settings of a family.
struct Totals {
  TraceResult sum;
  int32_t vain_builds = 0;  // where no adapter gains anything
  double worst_off = 0;     // policy / off
  double worst_oracle = 0;
  std::string worst_off_at;
  std::string worst_oracle_at;

  void Add(const TraceSettings& settings, const TraceResult& result) {
    sum.off += result.off;
    sum.policy += result.policy;
    sum.oracle += result.oracle;
    sum.rehearsals += result.rehearsals;
    sum.build_seconds += result.build_seconds;
    sum.builds += result.builds;
    sum.builds_without_gain += result.builds_without_gain;
    if (result.policy / result.off > worst_off) {
      worst_off = result.policy / result.off;
      worst_off_at = settings.Text();
    }
    if (result.policy / result.oracle > worst_oracle) {
      worst_oracle = result.policy / result.oracle;
      worst_oracle_at = settings.Text();
    }
  }
};

Totals RunFamily(const TraceFamily& family) {
  Totals totals;
  uint64_t seed = 1;
  for (const double gain : kGains) {
    for (const double build : kBuilds) {
      for (const int32_t copies : kCopies) {
        for (int32_t i = 0; i < Seeds(); ++i) {
          const TraceSettings settings = {seed++, gain, build, copies};
          const TraceResult result = RunTrace(family, settings);
          EXPECT_LE(result.oracle, result.off + 1e-6) << settings.Text();
          EXPECT_LE(result.oracle, result.policy) << settings.Text();
          // What the header promises; checks and one rehearsal come after the
          // debt was looked at, and what steps save is an estimate.
          EXPECT_LE(result.policy, result.off * (1 + MergePolicy::kLossShare) +
                                       MergePolicy::kFreeDebt + build + 0.5)
              << family.name << ": " << settings.Text();
          if (gain == 0) totals.vain_builds += result.builds;
          totals.Add(settings, result);
        }
      }
    }
  }
  return totals;
}

void PrintRow(const TraceFamily& family, const Totals& totals) {
  const TraceResult& sum = totals.sum;
  const double saved =
      sum.off + sum.rehearsals + sum.build_seconds - sum.policy;
  const auto percent = [&](double part) { return 100 * part / sum.off; };
  std::printf(
      "| %s | %.0f | %.0f | %.0f | %.3f | %.3f | %.3f | %.3f | %d | %.2f %% | "
      "%.2f %% | %.2f %% | %.2f %% |\n",
      family.name.c_str(), sum.off, sum.policy, sum.oracle,
      sum.policy / sum.off, totals.worst_off, sum.policy / sum.oracle,
      totals.worst_oracle, sum.builds, percent(sum.build_seconds),
      percent(sum.rehearsals), percent(saved), percent(sum.off - sum.oracle));
}

// All choices, one after the other: at each phase the weights stay as they are,
// or the adapter's are built in the place of one that goes, or beside them.
double LeastOfAll(const std::vector<TraceStep>& steps, size_t at,
                  std::set<int32_t> held, double build, size_t copies) {
  if (at == steps.size()) return 0;
  const TraceStep& step = steps[at];
  const auto after = [&](const std::set<int32_t>& then) {
    return LeastOfAll(steps, at + 1, then, build, copies);
  };
  if (step.adapter < 0) return step.unmerged_seconds + after(held);
  if (held.contains(step.adapter)) return step.merged_seconds + after(held);
  double least = step.unmerged_seconds + after(held);
  const double built = build + step.merged_seconds;
  std::set<int32_t> then = held;
  then.insert(step.adapter);
  if (held.size() < copies) least = std::min(least, built + after(then));
  for (const int32_t other : held) {
    std::set<int32_t> without = then;
    without.erase(other);
    least = std::min(least, built + after(without));
  }
  return least;
}

TEST(MergeTraces, TheBestChoiceIsTheLeastOfAllChoices) {
  std::mt19937_64 random(20261127);
  std::printf("seed 20261127\n");
  for (int i = 0; i < 300; ++i) {
    std::vector<TraceStep> steps;
    for (int j = 0; j < 9; ++j) {
      const double merged = static_cast<double>(random() % 10);
      const double unmerged = merged + static_cast<double>(random() % 6);
      steps.push_back(
          {static_cast<int32_t>(random() % 4) - 1, unmerged, merged});
    }
    for (const int32_t copies : {1, 2, 3}) {
      EXPECT_DOUBLE_EQ(LeastSeconds(steps, 4, copies),
                       LeastOfAll(steps, 0, {}, 4, copies))
          << "case " << i << ", " << copies << " copies";
    }
  }
}

TEST(MergeTraces, NearTheBestChoiceAndNeverSlower) {
  std::printf(
      "| family | off, s | policy, s | best in hindsight, s | policy/off | "
      "worst trace | policy/best | worst trace | builds | they took | "
      "rehearsals took | saved | best saves |\n");
  std::string worst;
  for (const TraceFamily& family : TraceFamilies()) {
    const Totals totals = RunFamily(family);
    PrintRow(family, totals);
    absl::StrAppend(&worst, family.name, ": against off ", totals.worst_off_at,
                    "; against the best ", totals.worst_oracle_at, "\n");
    const TraceResult& sum = totals.sum;
    EXPECT_LE(sum.policy, 1.01 * sum.off) << family.name;
    if (family.predictable) {
      EXPECT_LE(sum.policy, 1.05 * sum.oracle) << family.name;
    }
    EXPECT_EQ(sum.builds_without_gain, 0) << family.name;
    EXPECT_LE(totals.vain_builds, Seeds()) << family.name;
  }
  std::printf("worst traces\n%s", worst.c_str());
}

}  // namespace
}  // namespace descant
