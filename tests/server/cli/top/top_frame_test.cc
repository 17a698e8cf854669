// Pictures of `descant top`, whole.
#include "server/cli/top/top_frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/server/cli/top/top_fixture.h"

namespace descant::cli {
namespace {

TopStats Stats() {
  const v1::GetStatsResponse before = EarlierStats();
  return TopStatsOf(&before, LaterStats());
}

TopView View(int width, int height) {
  TopView view;
  view.title = "0.1.0  SmolLM2-135M-Instruct  cpu avx2, 2 threads";
  view.width = width;
  view.height = height;
  return view;
}

std::vector<std::string> LinesOf(const std::string& frame) {
  std::vector<std::string> lines = absl::StrSplit(frame, '\n');
  EXPECT_EQ(lines.back(), "");  // the frame ends with a newline
  lines.pop_back();
  return lines;
}

TEST(TopFrameTest, OnATerminalOf80Columns) {
  EXPECT_EQ(
      RenderTop(Stats(), View(80, 24)),
      "descant  0.1.0  SmolLM2-135M-Instruct  cpu avx2, 2 threads           up "
      "01:02:33\n"
      "tokens/s  in 1234  out 500  cached 50 %  steps/s 45.0  rows/step 22.0\n"
      "requests  running 12  waiting 3  preempted/s 0.0  registered adapters "
      "103\n"
      "KV        [#############======       ]  50 % used  25 % cached  of 1024 "
      "blocks\n"
      "slots     [######                    ]  16 of 64  loads/s 1.5  "
      "evictions/s 0.0\n"
      "\n"
      "TENANT       WEIGHT  SHARE   FAIR   RUN  WAIT    IN/S   OUT/S  CACHED  "
      "REFUSED/S\n"
      "acme              3   90 %   75 %     9     0     500     325    50 %   "
      "     0.0\n"
      "zeta              1   10 %   25 %     3     3     0.0    50.0       -   "
      "    12.5\n"
      "idle              1      -      -     0     0     0.0     0.0       -   "
      "     0.0\n"
      "\n"
      "ADAPTER                                             DIGEST   LEVEL   "
      "RUN  WAIT\n"
      "acme/pirate                                   ce229d6e655d  device     "
      "7     0\n"
      "zeta/text-to-sql                              1a103857403d    disk     "
      "0     3\n");
}

TEST(TopFrameTest, NarrowColumnsThatMatterLessGoFirst) {
  EXPECT_EQ(RenderTop(Stats(), View(40, 24)),
            "descant  0.1.0  SmolLM2-13~  up 01:02:33\n"
            "tokens/s  in 1234  out 500  cached 50 %~\n"
            "requests  running 12  waiting 3  preemp~\n"
            "KV        [######===    ]  50 % used  2~\n"
            "slots     [###          ]  16 of 64  lo~\n"
            "\n"
            "TENANT         SHARE   RUN  WAIT   OUT/S\n"
            "acme            90 %     9     0     325\n"
            "zeta            10 %     3     3    50.0\n"
            "idle               -     0     0     0.0\n"
            "\n"
            "ADAPTER                LEVEL   RUN  WAIT\n"
            "acme/pirate           device     7     0\n"
            "zeta/text-to-sql        disk     0     3\n");
}

TEST(TopFrameTest, WideShowsBlocksAndSlotsOfTenants) {
  const std::vector<std::string> lines =
      LinesOf(RenderTop(Stats(), View(120, 0)));
  EXPECT_EQ(lines[6],
            "TENANT                                 WEIGHT  SHARE   FAIR   RUN "
            " WAIT    IN/S   OUT/S  CACHED     KV  SLOTS  REFUSED/S");
  EXPECT_EQ(lines[7],
            "acme                                        3   90 %   75 %     9 "
            "    0     500     325    50 %    400     12        0.0");
}

TEST(TopFrameTest, LowTellsHowManyAreLeftOut) {
  TopStats stats = Stats();
  for (int i = 0; i < 40; ++i) {
    stats.tenants.push_back({});
    stats.tenants.back().name = absl::StrCat("t", i);
    stats.adapters.push_back(stats.adapters[0]);
  }
  const std::vector<std::string> lines =
      LinesOf(RenderTop(stats, View(80, 17)));
  ASSERT_EQ(lines.size(), 17u);
  // 5 + 4 lines of titles leave 8, half for each.
  EXPECT_TRUE(absl::StartsWith(lines[7], "acme"));
  EXPECT_EQ(lines[10], "+ 40 more");
  EXPECT_TRUE(absl::StartsWith(lines[13], "acme/pirate"));
  EXPECT_EQ(lines[16], "+ 39 more");
}

TEST(TopFrameTest, WithoutTenantsAndBeforeTheFirstInterval) {
  v1::GetStatsResponse after = LaterStats();
  after.mutable_tenants()->DeleteSubrange(1, 2);
  after.mutable_tenants(0)->clear_tenant();
  after.clear_active_adapters();
  TopView view = View(80, 24);
  view.title = "";
  view.notice = "no answer: UNAVAILABLE: gone";
  EXPECT_EQ(
      RenderTop(TopStatsOf(nullptr, after), view),
      "descant                                                              up "
      "01:02:33\n"
      "no answer: UNAVAILABLE: gone\n"
      "tokens/s  in -  out -  cached -  steps/s -  rows/step -\n"
      "requests  running 12  waiting 3  preempted/s -  registered adapters "
      "103\n"
      "KV        [#############======       ]  50 % used  25 % cached  of 1024 "
      "blocks\n"
      "slots     [######                    ]  16 of 64  loads/s -  "
      "evictions/s "
      "-\n"
      "\n"
      "TENANT       WEIGHT  SHARE   FAIR   RUN  WAIT    IN/S   OUT/S  CACHED  "
      "REFUSED/S\n"
      "(all)             3      -      -     9     0       -       -       -   "
      "       -\n");
}

// Names are the server's, and a server may be anybody's.
TEST(TopFrameTest, HostileAndOverlongNamesReachNoTerminal) {
  TopStats stats = Stats();
  stats.tenants[0].name =
      "a\x1b[2J\r\n\x9b"
      "31m\xc2\x9b\x7f";
  stats.tenants[1].name = std::string(5000, 'n');
  stats.adapters[0].name = "\x1b]0;title\x07";
  stats.adapters[0].digest = "\x1b[H";
  stats.adapters[0].level = "\n\n";
  stats.adapters[1].digest = ":";
  TopView view = View(80, 24);
  view.title = "\x1b[31m";
  view.notice = "line\nline";
  const std::string frame = RenderTop(stats, view);
  EXPECT_TRUE(absl::StrContains(frame, "\na?[2J???31~ "));
  EXPECT_TRUE(absl::StrContains(frame, "\nnnnnnnnnnn~ "));
  EXPECT_TRUE(absl::StrContains(frame, "\n?]0;title? "));
  EXPECT_TRUE(absl::StrContains(frame, "\nline?line\n"));
}

TEST(TopFrameTest, EverySizeIsKeptTo) {
  TopStats stats = Stats();
  stats.tenants[0].generated_tokens = 1e30;
  stats.tenants[0].refused = -1e300;
  stats.tenants[0].weight = 1 << 30;
  stats.kv_blocks_used = 1 << 30;  // more than there are
  stats.kv_blocks_total = -1;
  stats.uptime = 1e9;
  TopView view = View(0, 0);
  view.notice = "no answer";
  for (view.width = -1; view.width < 200; ++view.width) {
    for (view.height = 1; view.height < 30; ++view.height) {
      const std::vector<std::string> lines = LinesOf(RenderTop(stats, view));
      EXPECT_LE(lines.size(), static_cast<size_t>(view.height));
      for (const std::string& line : lines) {
        EXPECT_LE(static_cast<int>(line.size()), std::max(view.width, 0));
        EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char byte) {
          return byte >= ' ' && byte <= '~';
        }));
      }
    }
  }
}

TEST(TopFrameTest, BoldIsForTitlesOnly) {
  TopView view = View(80, 24);
  view.bold = true;
  for (const std::string& line : LinesOf(RenderTop(Stats(), view))) {
    const bool title = absl::StrContains(line, "descant  0.1.0") ||
                       absl::StrContains(line, "TENANT ") ||
                       absl::StrContains(line, "ADAPTER ");
    EXPECT_EQ(absl::StartsWith(line, "\x1b[1m"), title) << line;
    EXPECT_EQ(absl::EndsWith(line, "\x1b[m"), title) << line;
  }
}

}  // namespace
}  // namespace descant::cli
