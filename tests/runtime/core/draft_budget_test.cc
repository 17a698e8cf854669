#include "runtime/core/draft_budget.h"

#include <random>

#include "gtest/gtest.h"

namespace descant {
namespace {

TEST(DraftAcceptanceTest, FollowsWhatWasRightAndWrong) {
  DraftAcceptance acceptance;
  EXPECT_EQ(acceptance.chance(), 0.5);
  for (int i = 0; i < 10; ++i) acceptance.Observe(7, false);
  EXPECT_GT(acceptance.chance(), 0.99);
  acceptance.Observe(2, true);
  EXPECT_LT(acceptance.chance(), 0.9);
  for (int i = 0; i < 30; ++i) acceptance.Observe(0, true);
  EXPECT_LT(acceptance.chance(), 0.01);
  for (int i = 0; i < 10; ++i) acceptance.Observe(1, false);
  EXPECT_GT(acceptance.chance(), 0.8);
}

// Steps of `fixed` and `each` row, in milliseconds, with some noise.
DraftBudget Fitted(double fixed, double each, int32_t least_rows,
                   int32_t most_rows) {
  DraftBudget budget;
  std::mt19937 random(5);
  for (int i = 0; i < 400; ++i) {
    const int32_t rows =
        least_rows +
        static_cast<int32_t>(random() % (most_rows - least_rows + 1));
    const double noise = 0.98 + 0.04 * (random() % 1000) / 1000;
    budget.Observe(rows, (fixed + each * rows) * noise / 1000);
  }
  return budget;
}

TEST(DraftBudgetTest, WhatARowCostsDecides) {
  // Reading the weights takes the time: a row is nearly free.
  EXPECT_LT(Fitted(10, 0.1, 1, 8).LeastChance(1), 0.05);
  // The more tokens a step yields anyway, the less is each of them worth.
  const DraftBudget budget = Fitted(10, 0.1, 8, 40);
  EXPECT_NEAR(budget.LeastChance(8), 1.5 * 0.1 * 8 / 10.8, 0.03);
  EXPECT_NEAR(budget.LeastChance(32), 1.5 * 0.1 * 32 / 13.2, 0.07);
  // Arithmetic takes the time: nothing is to be had.
  EXPECT_GT(Fitted(1, 1, 4, 32).LeastChance(16), 1);
  EXPECT_GT(Fitted(1, 1, 1, 8).LeastChance(1), 0.6);
}

TEST(DraftBudgetTest, AFewDraftsArePaidForBeforeAnythingIsKnown) {
  DraftBudget budget;
  EXPECT_LT(budget.LeastChance(1), 0.1);
  EXPECT_GT(budget.LeastChance(64), 0.9);
  // Steps that are all alike tell nothing about rows.
  for (int i = 0; i < 50; ++i) budget.Observe(1, 0.010);
  EXPECT_LT(budget.LeastChance(1), 0.1);
  EXPECT_GT(budget.LeastChance(1), 0);
}

TEST(DraftBudgetTest, AStallCountsLittle) {
  DraftBudget budget = Fitted(10, 0.1, 1, 8);
  budget.Observe(8, 5.0);
  EXPECT_LT(budget.LeastChance(1), 0.15);
}

TEST(DraftBudgetTest, WhatIsSlowerForGoodIsLearned) {
  DraftBudget budget = Fitted(10, 0.1, 1, 8);
  for (int i = 0; i < 500; ++i)
    budget.Observe(1 + i % 8, (20 + 5 * (i % 8)) * 1e-3);
  EXPECT_NEAR(budget.LeastChance(1), 1.5 * 5 / 20, 0.1);
}

}  // namespace
}  // namespace descant
