#include "server/cli/text.h"

#include <gtest/gtest.h>

namespace descant::cli {
namespace {

TEST(TextTest, TerminalSeesNoEscapes) {
  EXPECT_EQ(TerminalText("a\x1b[31mb\r\n\tc\x7f"), "a[31mb\n\tc");
  EXPECT_EQ(TerminalText("世界"), "世界");
}

TEST(TextTest, InvalidUtf8IsReplaced) {
  EXPECT_EQ(ToValidUtf8("plain \"quoted\" \n"), "plain \"quoted\" \n");
  EXPECT_EQ(ToValidUtf8("世界"), "世界");
  EXPECT_EQ(ToValidUtf8("a\xff"
                        "b"),
            "a\xef\xbf\xbd"
            "b");
}

}  // namespace
}  // namespace descant::cli
