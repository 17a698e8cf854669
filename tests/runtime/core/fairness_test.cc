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
  EXPECT_EQ(fairness.counter(tenant), 16 * kCounterUnit);
}

TEST(TokenFairness, AWeightDividesTheCost) {
  TokenFairness fairness;
  const auto heavy = fairness.Enter("heavy", 1000);
  const auto light = fairness.Enter("light", 1);
  for (int i = 0; i < 1000; ++i) fairness.ChargeOutput(heavy, 1);
  fairness.ChargeOutput(light, 1);
  // Each charge is rounded down by less than one part in 30,000.
  EXPECT_NEAR(static_cast<double>(fairness.counter(heavy)),
              static_cast<double>(fairness.counter(light)),
              static_cast<double>(kCounterUnit) / 10000);
}

TEST(TokenFairness, TheLastWeightCounts) {
  TokenFairness fairness;
  const auto tenant = fairness.Enter("a", 1);
  fairness.ChargePrompt(tenant, 8);
  EXPECT_EQ(fairness.Enter("a", 4), tenant);
  fairness.ChargePrompt(tenant, 8);
  EXPECT_EQ(fairness.counter(tenant), 10 * kCounterUnit);
}

TEST(TokenFairness, ANewcomerStartsNearTheLowestQueuedCounter) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  const auto b = fairness.Enter("b");
  fairness.Queued(a);
  fairness.Queued(b);
  fairness.ChargePrompt(a, 7100);
  fairness.ChargePrompt(b, 7070);
  const auto c = fairness.Enter("c", 2);
  fairness.Queued(c);
  EXPECT_EQ(fairness.counter(c), (7070 - kMaxCredit / 2) * kCounterUnit);
  // Its credit lowers the level for nobody else.
  const auto d = fairness.Enter("d");
  fairness.Queued(d);
  EXPECT_EQ(fairness.counter(d), (7070 - kMaxCredit) * kCounterUnit);
}

TEST(TokenFairness, AnAbsenceBuysLittle) {
  TokenFairness fairness;
  const auto idle = fairness.Enter("idle");
  const auto busy = fairness.Enter("busy");
  fairness.Queued(idle);
  fairness.Unqueued(idle);
  fairness.Leave(idle);
  fairness.Queued(busy);
  fairness.ChargePrompt(busy, 5000);
  EXPECT_EQ(fairness.Enter("idle"), idle);
  fairness.Queued(idle);
  EXPECT_EQ(fairness.counter(idle), (5000 - kMaxCredit) * kCounterUnit);
}

TEST(TokenFairness, WithNobodyQueuedTheLastWhoLeftSetsTheLevel) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  fairness.Queued(a);
  fairness.ChargePrompt(a, 3000);
  fairness.Unqueued(a);
  const auto b = fairness.Enter("b");
  fairness.Queued(b);
  EXPECT_EQ(fairness.counter(b), (3000 - kMaxCredit) * kCounterUnit);
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
  EXPECT_EQ(fairness.counter(a), 900 * kCounterUnit);
}

TEST(TokenFairness, WaitingForSlotsSavesUpLittle) {
  TokenFairness fairness;
  const auto cold = fairness.Enter("cold");
  const auto busy = fairness.Enter("busy");
  fairness.Queued(cold);
  fairness.Queued(busy);
  fairness.PassedOver(cold);
  fairness.ChargePrompt(busy, 9000);
  // Who comes meanwhile is lifted to those who can run.
  const auto late = fairness.Enter("late");
  fairness.Queued(late);
  EXPECT_EQ(fairness.counter(late), (9000 - kMaxCredit) * kCounterUnit);
  EXPECT_TRUE(fairness.Ready(cold));
  EXPECT_EQ(fairness.counter(cold), (9000 - kMaxArrears) * kCounterUnit);
  EXPECT_FALSE(fairness.Ready(cold)) << "once";
}

TEST(TokenFairness, OfThoseWhoAllWaitForSlotsNobodyIsFarAhead) {
  TokenFairness fairness;
  const auto a = fairness.Enter("a");
  const auto b = fairness.Enter("b");
  fairness.Queued(a);
  fairness.Queued(b);
  EXPECT_FALSE(fairness.Ready(a));
  fairness.ChargePrompt(a, 9000);
  fairness.PassedOver(b);
  fairness.PassedOver(a);
  EXPECT_TRUE(fairness.Ready(b));
  EXPECT_EQ(fairness.counter(b), (9000 - kMaxArrears) * kCounterUnit);
  EXPECT_FALSE(fairness.Ready(a));
}

TEST(TokenFairness, ForgetsOnlyWhomItWouldLiftAnyway) {
  TokenFairness fairness;
  const auto debtor = fairness.Enter("debtor");
  const auto queued = fairness.Enter("queued");
  fairness.Queued(queued);
  fairness.ChargePrompt(queued, kMaxCredit);
  fairness.ChargePrompt(debtor, 1000);
  fairness.Leave(debtor);
  for (int i = 0; i < 5000; ++i) {
    fairness.Leave(fairness.Enter(absl::StrCat("passing", i)));
  }
  EXPECT_LE(fairness.size(), 1025);
  const auto again = fairness.Enter("debtor");
  EXPECT_EQ(fairness.counter(again), 1000 * kCounterUnit);
  EXPECT_EQ(fairness.name(again), "debtor");
}

}  // namespace
}  // namespace descant
