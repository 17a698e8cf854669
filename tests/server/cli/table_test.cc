#include "server/cli/table.h"

#include <gtest/gtest.h>

namespace descant::cli {
namespace {

TEST(TableTest, AlignsColumns) {
  Table table({{"name"}, {"rank", Align::kRight}, {"state"}});
  table.AddRow({"pirate", "8", "ready"});
  table.AddRow({"sql", "16", ""});
  EXPECT_EQ(table.Render(),
            "name    rank  state\n"
            "pirate     8  ready\n"
            "sql       16\n");
}

TEST(TableTest, CountsCharactersNotBytes) {
  Table table({{"a"}, {"b"}});
  table.AddRow({"über", "1"});
  table.AddRow({"uber", "2"});
  EXPECT_EQ(table.Render(), "a     b\nüber  1\nuber  2\n");
}

TEST(TableTest, NoCellMovesTheCursor) {
  Table table({{"a"}});
  table.AddRow({"x\x1b[2J\ny\x7f"});
  EXPECT_EQ(table.Render(), "a\nx?[2J?y?\n");
}

}  // namespace
}  // namespace descant::cli
