#include "server/cli/progress_bar.h"

#include <gtest/gtest.h>

namespace descant::cli {
namespace {

TEST(ProgressBarTest, FormatsBytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 kB");
  EXPECT_EQ(FormatBytes(99'940), "99.9 kB");
  EXPECT_EQ(FormatBytes(99'960), "100 kB");
  EXPECT_EQ(FormatBytes(999'499), "999 kB");
  EXPECT_EQ(FormatBytes(999'500), "1.0 MB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "18.4 EB");
}

TEST(ProgressBarTest, RendersAShare) {
  EXPECT_EQ(RenderProgress("a", 1'500'000, 3'000'000, "1.5 MB"),
            "a  [###############               ]   50 %  1.5 MB");
  EXPECT_EQ(RenderProgress("a", 0, 10, "0 B"),
            "a  [                              ]    0 %  0 B");
  EXPECT_EQ(RenderProgress("a", 11, 10, "10 B"),
            "a  [##############################]  100 %  10 B");
  EXPECT_EQ(RenderProgress("a", 0, 0, "0 B"),
            "a  [##############################]  100 %  0 B");
}

}  // namespace
}  // namespace descant::cli
