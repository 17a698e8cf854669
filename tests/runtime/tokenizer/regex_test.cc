#include "runtime/tokenizer/regex.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace descant {
namespace {

using Matches = std::vector<std::pair<size_t, size_t>>;

Matches All(const Regex& regex, absl::string_view text) {
  Matches matches;
  RegexScratch scratch;
  const auto status =
      regex.ForEachMatch(text, &scratch, [&](size_t begin, size_t end) {
        matches.emplace_back(begin, end);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return matches;
}

TEST(RegexTest, NoEmptyMatchRightAfterAnother) {
  EXPECT_EQ(All(*Regex::Compile("a*"), "baac"),
            (Matches{{0, 0}, {1, 3}, {4, 4}}));
  EXPECT_EQ(All(*Regex::Compile("x?"), "\xc3\xa9"), (Matches{{0, 0}, {2, 2}}));
}

TEST(RegexTest, LiteralHasNoSyntax) {
  EXPECT_EQ(All(*Regex::Literal("a.*["), "xa.*[a.*["),
            (Matches{{1, 5}, {5, 9}}));
}

TEST(RegexTest, WhiteSpaceIsUnicodesNotPcre2s) {
  const std::string separator = "\xe1\xa0\x8e";  // U+180E
  EXPECT_TRUE(All(*Regex::Compile("\\s"), separator).empty());
  EXPECT_TRUE(All(*Regex::Compile("[\\s]"), separator).empty());
  EXPECT_EQ(All(*Regex::Compile("\\S"), separator).size(), 1u);
  EXPECT_EQ(All(*Regex::Compile("[\\S]"), separator).size(), 1u);
  EXPECT_EQ(All(*Regex::Compile("\\s"), "\xc2\x85\xe3\x80\x80").size(), 2u);
}

TEST(RegexTest, RefusesByNameWhatOnigurumaReadsDifferently) {
  for (const char* pattern :
       {"\\w",  "\\b",     "\\h",     "\\R",    "\\X",     "\\1",
        "\\pL", "\\xff",   "a{1,2}+", "a{2}?",  "[a&&b]",  "[[:alpha:]]",
        "[]a]", "[a",      "(?m)a",   "a(?i)b", "(?<n>a)", "(*UTF)a",
        "\\",   "[\\s-a]", "\\u12"}) {
    const auto regex = Regex::Compile(pattern);
    EXPECT_EQ(regex.status().code(), absl::StatusCode::kUnimplemented)
        << pattern;
  }
  for (const char* pattern : {"(", "a)", "*", "\\p{Nonsense}", "[b-a]"}) {
    EXPECT_EQ(Regex::Compile(pattern).status().code(),
              absl::StatusCode::kInvalidArgument)
        << pattern;
  }
}

TEST(RegexTest, ExponentialPatternEndsInAnError) {
  const auto regex = Regex::Compile("(a|aa|aaa)+$b|c");
  ASSERT_TRUE(regex.ok()) << regex.status();
  RegexScratch scratch;
  const auto status =
      regex->ForEachMatch(std::string(5000, 'a'), &scratch,
                          [](size_t, size_t) { return absl::OkStatus(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

}  // namespace
}  // namespace descant
