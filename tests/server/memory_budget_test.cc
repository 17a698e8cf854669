#include "server/memory_budget.h"

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

TEST(MemoryBudgetTest, GivesWhatThereIs) {
  MemoryBudget budget(100);
  auto first = budget.Take("", 50);
  ASSERT_TRUE(first.ok());
  auto second = budget.Take("", 40);
  ASSERT_TRUE(second.ok());
  const auto third = budget.Take("", 11);
  EXPECT_EQ(third.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(third.status()), "MEMORY_FULL");
  EXPECT_TRUE(second->Grow(10).ok());
  EXPECT_EQ(budget.held(), 100u);
  first->Release();
  EXPECT_EQ(budget.held(), 50u);
  EXPECT_TRUE(budget.Take("", 50).ok());
}

TEST(MemoryBudgetTest, OneRequestGetsHalfAtMost) {
  MemoryBudget budget(100);
  for (const uint64_t bytes : {uint64_t{51}, ~uint64_t{0}}) {
    const auto refused = budget.Take("", bytes);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(refused.status()), "REQUEST_TOO_LARGE");
  }
  auto hold = budget.Take("", 30);
  ASSERT_TRUE(hold.ok());
  EXPECT_EQ(ReasonOf(hold->Grow(21)), "REQUEST_TOO_LARGE");
  EXPECT_EQ(ReasonOf(hold->Grow(~uint64_t{0})), "REQUEST_TOO_LARGE");
  EXPECT_EQ(hold->bytes(), 30u) << "what was held stays held";
  EXPECT_TRUE(hold->Grow(20).ok());
}

TEST(MemoryBudgetTest, OneTenantGetsThreeQuartersAtMost) {
  MemoryBudget budget(100);
  auto first = budget.Take("acme", 50);
  auto second = budget.Take("acme", 25);
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = budget.Take("acme", 1);
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(third.status()), "TENANT_MEMORY_LIMIT");
  EXPECT_EQ(budget.held(), 75u);
  EXPECT_TRUE(budget.Take("globex", 25).ok());
  second->Release();
  EXPECT_TRUE(budget.Take("acme", 25).ok());
}

TEST(MemoryBudgetTest, AHoldEndsOnce) {
  MemoryBudget budget(100);
  {
    auto taken = budget.Take("acme", 30);
    ASSERT_TRUE(taken.ok());
    MemoryBudget::Hold moved = *std::move(taken);
    EXPECT_EQ(budget.held(), 30u);
    moved.Release();
    moved.Release();
    EXPECT_EQ(budget.held(), 0u);
  }
  EXPECT_EQ(budget.held(), 0u);
}

TEST(MemoryBudgetTest, ThreadsNeverHoldMoreThanThereIs) {
  MemoryBudget budget(1000);
  std::atomic<int> given{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        const auto hold = budget.Take(t % 2 == 0 ? "acme" : "globex", 300);
        if (!hold.ok()) continue;
        ++given;
        if (budget.held() > 1000) over = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(given, 0);
  EXPECT_FALSE(over);
  EXPECT_EQ(budget.held(), 0u);
}

}  // namespace
}  // namespace descant
