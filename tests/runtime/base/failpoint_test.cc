#include "runtime/base/failpoint.h"

#include <gtest/gtest.h>

#include <csignal>

namespace descant {
namespace {

class FailpointTest : public testing::Test {
 protected:
  void TearDown() override { DisarmFailpoints(); }
};

TEST_F(FailpointTest, PassesUnlessArmed) {
  EXPECT_TRUE(Failpoint("a").ok());
  ArmFailpoint("b", FailAction::kError);
  EXPECT_TRUE(Failpoint("a").ok());
}

TEST_F(FailpointTest, ActsOnceAfterItsSkips) {
  ArmFailpoint("a", FailAction::kError, 2);
  EXPECT_TRUE(Failpoint("a").ok());
  EXPECT_TRUE(Failpoint("a").ok());
  EXPECT_EQ(Failpoint("a").code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Failpoint("a").ok());
}

TEST_F(FailpointTest, ArmsFromText) {
  ASSERT_TRUE(ArmFailpointsFromText("a=error:1,b=error").ok());
  EXPECT_TRUE(Failpoint("a").ok());
  EXPECT_FALSE(Failpoint("a").ok());
  EXPECT_FALSE(Failpoint("b").ok());
  for (const char* bad :
       {"a", "=kill", "a=explode", "a=kill:x", "a=kill:-1", "a=kill:1:2"}) {
    EXPECT_EQ(ArmFailpointsFromText(bad).code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(FailpointDeathTest, KillsLikeSignalNine) {
  EXPECT_EXIT(
      {
        ArmFailpoint("k", FailAction::kKill);
        Failpoint("k").IgnoreError();
      },
      testing::KilledBySignal(SIGKILL), "");
}

}  // namespace
}  // namespace descant
