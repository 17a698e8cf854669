#include "server/cli/run/progress.h"

#include "gtest/gtest.h"

namespace descant::cli {
namespace {

TEST(RunProgressTest, WhatIsKnown) {
  RunCounts counts;
  EXPECT_EQ(DescribeProgress(counts), "0 done");
  counts.answered = 100;
  counts.skipped = 20;
  counts.seconds = 4;
  counts.output_tokens = 3800;
  EXPECT_EQ(DescribeProgress(counts), "120 done, 950 tokens/s");
  counts.failed = 3;
  counts.total_bytes = 1000;
  counts.skipped_bytes = 200;
  counts.done_bytes = 400;
  // 400 bytes took 4 seconds, and 400 are left.
  EXPECT_EQ(DescribeProgress(counts),
            "120 done, 3 failed, 950 tokens/s, 0:04 left");
}

TEST(RunProgressTest, Durations) {
  EXPECT_EQ(FormatDuration(0), "0:00");
  EXPECT_EQ(FormatDuration(59.6), "1:00");
  EXPECT_EQ(FormatDuration(754), "12:34");
  EXPECT_EQ(FormatDuration(3 * 3600 + 5), "3:00:05");
}

}  // namespace
}  // namespace descant::cli
