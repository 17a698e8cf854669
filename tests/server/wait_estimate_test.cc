#include "server/wait_estimate.h"

#include <chrono>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "tests/testing/fake_clock.h"

namespace descant {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class WaitEstimateTest : public ::testing::Test {
 protected:
  ExpectedWork Work(Duration patience, int32_t priority = 0) {
    return {.prompt_tokens = 100,
            .max_tokens = 50,
            .priority = priority,
            .deadline = clock_.Now() + patience};
  }

  // Whether a request that waits so long at most is taken; then it waits.
  bool Take(Duration patience, const std::string& tenant = "acme",
            int32_t priority = 0) {
    auto ticket = estimate_.Enter(tenant, Work(patience, priority));
    if (!ticket.ok()) {
      EXPECT_EQ(ticket.status().code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(ReasonOf(ticket.status()), "DEADLINE_UNREACHABLE");
      return false;
    }
    waiting_.push_back(*std::move(ticket));
    return true;
  }

  // The first one that waits has its turn after `wait`.
  void Serve(Duration wait) {
    clock_.Advance(wait);
    waiting_.front().Started();
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }

  // One has its turn a second, and an answer takes a second.
  void Learn(const std::string& tenant = "acme") {
    for (int i = 0; i < 11; ++i) {
      ASSERT_TRUE(Take(seconds(1000), tenant));
    }
    for (int i = 0; i < 11; ++i) Serve(seconds(1));
    clock_.Advance(seconds(1));
    running_.back().Finished(50, true);
    running_.clear();
  }

  FakeClock clock_;
  WaitEstimate estimate_{&clock_};
  std::deque<WaitEstimate::Ticket> waiting_;
  std::vector<WaitEstimate::Ticket> running_;
};

TEST_F(WaitEstimateTest, NothingIsKnownNothingIsRefused) {
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(Take(milliseconds(1)));
}

TEST_F(WaitEstimateTest, WithNobodyWaitingNothingIsRefused) {
  Learn();
  EXPECT_TRUE(Take(milliseconds(1)));
}

TEST_F(WaitEstimateTest, WhoWouldWaitTooLongIsRefused) {
  Learn();
  // A start a second, an answer takes one: the fifth is answered after six
  // seconds, a quarter more to be sure.
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_FALSE(Take(milliseconds(7400)));
  EXPECT_TRUE(Take(milliseconds(7700)));
  // That one waits as well.
  EXPECT_FALSE(Take(milliseconds(7700)));
}

TEST_F(WaitEstimateTest, TheRefusalSaysWhenToComeBack) {
  Learn();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Take(seconds(1000)));
  const absl::Status status = estimate_.Check("acme", 0, clock_.Now());
  const auto delay = status.GetPayload("descant/retry-delay");
  ASSERT_TRUE(delay.has_value());
  int64_t nanoseconds = 0;
  ASSERT_TRUE(absl::SimpleAtoi(std::string(*delay), &nanoseconds));
  // A hundred seconds, a quarter more.
  EXPECT_NEAR(static_cast<double>(nanoseconds) * 1e-9, 125, 0.01);
}

TEST_F(WaitEstimateTest, TheQueueIsTheTenantsOwn) {
  Learn("acme");
  Learn("other");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_FALSE(Take(seconds(10)));
  EXPECT_TRUE(Take(seconds(10), "other"));
}

TEST_F(WaitEstimateTest, HigherPriorityWaitsForItsOwnOnly) {
  Learn();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_FALSE(Take(seconds(10), "acme", 0));
  EXPECT_FALSE(Take(seconds(10), "acme", -1));
  EXPECT_TRUE(Take(seconds(10), "acme", 1));
}

TEST_F(WaitEstimateTest, WhoLeavesTheQueueIsNotWaitedFor) {
  Learn();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_FALSE(Take(seconds(10)));
  waiting_.clear();
  EXPECT_TRUE(Take(seconds(10)));
  EXPECT_TRUE(Take(seconds(10)));
}

TEST_F(WaitEstimateTest, ACheckTakesNoPlace) {
  Learn();
  ASSERT_TRUE(Take(seconds(1000)));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(estimate_.Check("acme", 0, clock_.Now() + seconds(10)).ok());
  }
  EXPECT_TRUE(Take(seconds(10)));
}

TEST_F(WaitEstimateTest, ASlowerServerIsNoticed) {
  Learn();
  // Four seconds a start from here on; nobody is answered in time.
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Take(seconds(10000)));
    Serve(seconds(4));
    running_.back().Finished(3, false);
    running_.clear();
  }
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Take(seconds(10000)));
  EXPECT_FALSE(Take(seconds(20)));
  EXPECT_TRUE(Take(seconds(40)));
}

TEST_F(WaitEstimateTest, AQueueThatStandsIsNoticed) {
  Learn();
  ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_TRUE(estimate_.Check("acme", 0, clock_.Now() + seconds(10)).ok());
  clock_.Advance(seconds(9));
  EXPECT_FALSE(estimate_.Check("acme", 0, clock_.Now() + seconds(10)).ok());
  EXPECT_TRUE(estimate_.Check("acme", 0, clock_.Now() + seconds(12)).ok());
}

TEST_F(WaitEstimateTest, TimeWithoutAQueueDoesNotCount) {
  Learn();
  clock_.Advance(seconds(3600));
  ASSERT_TRUE(Take(seconds(1000)));
  Serve(seconds(1));
  ASSERT_TRUE(Take(seconds(1000)));
  EXPECT_TRUE(Take(seconds(10)));
}

}  // namespace
}  // namespace descant
