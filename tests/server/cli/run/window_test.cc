#include "server/cli/run/window.h"

#include <chrono>

#include "gtest/gtest.h"

namespace descant::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kSeed = 1;

TEST(WindowTest, FullUntilItIsRefused) {
  const MonotonicTime now{};
  Window window(80, kSeed);
  EXPECT_EQ(window.limit(), 80);
  EXPECT_TRUE(window.MayStart(79, now));
  EXPECT_FALSE(window.MayStart(80, now));
}

TEST(WindowTest, ComesDownToWhatIsTakenAndTriesAgain) {
  MonotonicTime now{};
  now += seconds(1000);
  Window window(64, kSeed);
  // 64 were sent, 20 of them refused.
  for (int left = 63; left >= 44; --left) {
    window.OnOverload(left, seconds(1), now);
  }
  EXPECT_EQ(window.limit(), 44);
  EXPECT_FALSE(window.MayStart(0, now));
  EXPECT_FALSE(window.MayStart(0, now + milliseconds(999)));
  EXPECT_TRUE(window.MayStart(43, now + milliseconds(1501)));
  EXPECT_FALSE(window.MayStart(44, now + milliseconds(1501)));
  for (int i = 0; i < 87; ++i) window.OnAnswer();
  EXPECT_EQ(window.limit(), 44);
  window.OnAnswer();
  EXPECT_EQ(window.limit(), 45);
  now += seconds(10);
  window.OnOverload(0, Duration{}, now);
  EXPECT_EQ(window.limit(), 1);
  for (int i = 0; i < 10000; ++i) window.OnAnswer();
  EXPECT_EQ(window.limit(), 64);
}

TEST(WindowTest, AnAbsurdDelayIsCapped) {
  const MonotonicTime now{};
  Window window(8, kSeed);
  window.OnOverload(4, std::chrono::hours(1000), now);
  EXPECT_TRUE(window.MayStart(0, now + std::chrono::minutes(10)));
}

TEST(WindowTest, OneAsksWhileNobodyAnswers) {
  MonotonicTime now{};
  now += seconds(1000);
  const MonotonicTime began = now;
  Window window(64, kSeed);
  for (int i = 0; i < 64; ++i) window.OnUnreachable({}, now);
  EXPECT_EQ(window.unreachable_since(), began);
  // All 64 broke at once: that is one failure, not 64.
  EXPECT_LE(window.resume_at() - now, milliseconds(125));
  Duration last{};
  for (int i = 0; i < 12; ++i) {
    now = window.resume_at();
    EXPECT_TRUE(window.MayStart(0, now));
    EXPECT_FALSE(window.MayStart(1, now));
    window.OnUnreachable({}, now);
    last = window.resume_at() - now;
  }
  EXPECT_GE(last, seconds(7));
  EXPECT_LE(last, milliseconds(12500));
  EXPECT_EQ(window.unreachable_since(), began);
  now = window.resume_at();
  window.OnAnswer();
  EXPECT_EQ(window.unreachable_since(), std::nullopt);
  EXPECT_TRUE(window.MayStart(63, now));
  window.OnUnreachable(seconds(30), now);
  EXPECT_FALSE(window.MayStart(0, now + milliseconds(29999)));
}

}  // namespace
}  // namespace descant::cli
