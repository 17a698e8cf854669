#include "runtime/core/fairness.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

TEST(TokenFairness, ChargesOutputTwice) {
  TokenFairness fairness;
  const auto tenant = fairness.Enter("a");
  fairness.ChargePrompt(tenant, 10);
  fairness.ChargeOutput(tenant, 3);
  EXPECT_EQ(fairness.counter(tenant), 16);
}

TEST(TokenFairness, ANewcomerStartsAtTheLowestQueuedCounter) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  const auto b = fairness.Enter("b");
  fairness.Queued(a);
  fairness.Queued(b);
  fairness.ChargePrompt(a, 100);
  fairness.ChargePrompt(b, 70);
  const auto c = fairness.Enter("c");
  fairness.Queued(c);
  EXPECT_EQ(fairness.counter(c), 70);
}

TEST(TokenFairness, AnAbsenceBuysNothing) {
  TokenFairness fairness;
  const auto idle = fairness.Enter("idle");
  const auto busy = fairness.Enter("busy");
  fairness.Queued(idle);
  fairness.Unqueued(idle);
  fairness.Leave(idle);
  fairness.Queued(busy);
  fairness.ChargePrompt(busy, 500);
  EXPECT_EQ(fairness.Enter("idle"), idle);
  fairness.Queued(idle);
  EXPECT_EQ(fairness.counter(idle), 500);
}

TEST(TokenFairness, WithNobodyQueuedTheLastWhoLeftSetsTheLevel) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  fairness.Queued(a);
  fairness.ChargePrompt(a, 300);
  fairness.Unqueued(a);
  const auto b = fairness.Enter("b");
  fairness.Queued(b);
  EXPECT_EQ(fairness.counter(b), 300);
}

TEST(TokenFairness, ComingBackNeverForgivesADebt) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  const auto b = fairness.Enter("b");
  fairness.Queued(a);
  fairness.Queued(b);
  fairness.ChargePrompt(a, 900);
  fairness.ChargePrompt(b, 10);
  fairness.Unqueued(a);
  fairness.Leave(a);
  EXPECT_EQ(fairness.Enter("a"), a);
  fairness.Queued(a);
  EXPECT_EQ(fairness.counter(a), 900);
}

TEST(TokenFairness, ForgetsOnlyWhomItWouldLiftAnyway) {
  TokenFairness fairness;
  const auto debtor = fairness.Enter("debtor");
  const auto queued = fairness.Enter("queued");
  fairness.Queued(queued);
  fairness.ChargePrompt(queued, 50);
  fairness.ChargePrompt(debtor, 1000);
  fairness.Leave(debtor);
  for (int i = 0; i < 5000; ++i) {
    fairness.Leave(fairness.Enter(absl::StrCat("passing", i)));
  }
  EXPECT_LE(fairness.size(), 1025);
  const auto again = fairness.Enter("debtor");
  EXPECT_EQ(fairness.counter(again), 1000);
  EXPECT_EQ(fairness.name(again), "debtor");
}

}  // namespace
}  // namespace descant
