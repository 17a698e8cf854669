#include "runtime/tokenizer/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

struct Outcome {
  std::string emitted;
  int index = -1;
};

// The definition, by brute force.
Outcome Expected(const std::string& text,
                 const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (!stop.empty() && stop.size() <= end &&
          text.compare(end - stop.size(), stop.size(), stop) == 0 &&
          (best < 0 || stop.size() > stops[best].size())) {
        best = static_cast<int>(i);
      }
    }
    if (best >= 0) return {text.substr(0, end - stops[best].size()), best};
  }
  return {text, -1};
}

TEST(StopMatcherTest, AnyCutOfTheTextGivesTheSame) {
  const uint32_t seed = 7;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  const auto random_text = [&](size_t length) {
    std::string text(length, 'a');
    for (char& c : text) c = static_cast<char>('a' + rng() % 2);
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = rng() % 4; i > 0; --i) {
      stops.push_back(random_text(rng() % 8));
    }
    const std::string text = random_text(rng() % 40);
    const Outcome expected = Expected(text, stops);
    StopMatcher matcher(stops);
    std::string emitted;
    for (size_t at = 0; at < text.size();) {
      const size_t length = rng() % 6;
      emitted += matcher.Append(text.substr(at, length));
      at += length;
      // Nothing is emitted that a later match would take back.
      ASSERT_EQ(emitted, expected.emitted.substr(0, emitted.size()));
    }
    emitted += matcher.Flush();
    ASSERT_EQ(emitted, expected.emitted);
    ASSERT_EQ(matcher.matched(), expected.index >= 0);
    if (expected.index >= 0) {
      ++matches;
      ASSERT_EQ(stops[matcher.matched_index()], stops[expected.index]);
    }
  }
  EXPECT_GT(matches, 1000);
}

TEST(StopMatcherTest, HoldsBackOnlyWhatCouldBecomeAStop) {
  StopMatcher matcher({"</s>", "\n\n"});
  EXPECT_EQ(matcher.Append("abc"), "abc");
  EXPECT_EQ(matcher.Append("x<"), "x");
  EXPECT_EQ(matcher.Append("/"), "");
  EXPECT_EQ(matcher.Append("b>\n"), "</b>");
  EXPECT_EQ(matcher.Append("y"), "\ny");
  EXPECT_EQ(matcher.Append("z</"), "z");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.Append("s>more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.matched_index(), 0);
  EXPECT_EQ(matcher.Append("more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, WithoutStopsEverythingPasses) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.Append("abc"), "abc");
  EXPECT_EQ(matcher.Flush(), "");
  EXPECT_EQ(matcher.matched_index(), -1);
}

TEST(StopMatcherTest, HoldsWholeCharacters) {
  // The stop begins with the lead byte of the text's character.
  StopMatcher matcher({"\xc3\xa9!"});
  EXPECT_EQ(matcher.Append("\xc3\xa8"), "\xc3\xa8");
  EXPECT_EQ(matcher.Append("\xc3\xa9"), "");
  EXPECT_EQ(matcher.Flush(), "\xc3\xa9");
}

TEST(StopMatcherTest, CountsOnlyWhereItMayMatch) {
  for (size_t cut = 0; cut <= 3; ++cut) {
    StopMatcher matcher({"abc"});
    const std::string text = "xabc";
    // The first part may not match, the second one may.
    std::string shown = matcher.Append(text.substr(0, cut + 1), false);
    shown += matcher.Append(text.substr(cut + 1), true);
    EXPECT_EQ(matcher.matched(), cut < 3) << cut;
    EXPECT_EQ(shown, cut < 3 ? "x" : "xabc") << cut;
  }
  // What was passed over doesn't hide an overlapping one.
  StopMatcher matcher({"aa"});
  EXPECT_EQ(matcher.Append("aa", false), "a");
  EXPECT_EQ(matcher.Append("a", true), "");
  EXPECT_TRUE(matcher.matched());
}

// Characters of two to four bytes, as whole characters in any grouping.
TEST(StopMatcherTest, Utf8OverEveryBorder) {
  const std::vector<std::string> characters = {"é", "\u4e16", "\U0001f600",
                                               "é", "\u754c", "!"};
  const std::string stop = "\U0001f600é";
  for (unsigned borders = 0; borders < 32; ++borders) {
    StopMatcher matcher({stop});
    std::string shown;
    std::string part;
    for (size_t i = 0; i < characters.size(); ++i) {
      part += characters[i];
      if (i + 1 < characters.size() && (borders >> i & 1u) == 0) continue;
      shown += matcher.Append(part);
      part.clear();
      EXPECT_TRUE(IsValidUtf8(shown)) << borders;
    }
    EXPECT_TRUE(matcher.matched());
    EXPECT_EQ(shown, "é\u4e16") << borders;
  }
}

}  // namespace
}  // namespace descant
