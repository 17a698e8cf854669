#include "runtime/core/prompt_lookup.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int32_t> Propose(PromptLookup* lookup,
                             const std::vector<int32_t>& tokens,
                             int32_t count = 4) {
  std::vector<int32_t> drafts(count);
  drafts.resize(lookup->Propose(tokens, absl::MakeSpan(drafts)));
  return drafts;
}

TEST(PromptLookupTest, WhatFollowedBeforeFollowsAgain) {
  PromptLookup lookup(100);
  EXPECT_THAT(Propose(&lookup, {1, 2, 3, 4, 5, 6, 7, 1, 2}),
              ElementsAre(3, 4, 5, 6));
}

TEST(PromptLookupTest, NothingWithoutAnEarlierOccurrence) {
  PromptLookup lookup(100);
  EXPECT_THAT(Propose(&lookup, {1}), IsEmpty());
  EXPECT_THAT(Propose(&lookup, {1, 2}), IsEmpty());
  // One token in common is not enough.
  EXPECT_THAT(Propose(&lookup, {1, 2, 3, 4, 2}), IsEmpty());
}

TEST(PromptLookupTest, TheLongestOccurrenceWinsThenTheLast) {
  PromptLookup longest(100);
  EXPECT_THAT(Propose(&longest, {9, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2}, 1),
              ElementsAre(50));
  PromptLookup last(100);
  EXPECT_THAT(Propose(&last, {1, 2, 50, 1, 2, 60, 1, 2}, 1), ElementsAre(60));
}

TEST(PromptLookupTest, ALoopGoesOn) {
  PromptLookup lookup(100);
  EXPECT_THAT(Propose(&lookup, {5, 1, 2, 3, 1, 2, 3}, 7),
              ElementsAre(1, 2, 3, 1, 2, 3, 1));
  PromptLookup one(100);
  EXPECT_THAT(Propose(&one, {4, 4, 4}, 3), ElementsAre(4, 4, 4));
}

TEST(PromptLookupTest, ATextThatLeavesItsPatternIsLookedUpAnew) {
  PromptLookup lookup(100);
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 1, 2};
  EXPECT_THAT(Propose(&lookup, tokens, 1), ElementsAre(3));
  tokens.push_back(3);
  EXPECT_THAT(Propose(&lookup, tokens, 2), ElementsAre(4, 5));
  tokens.push_back(9);
  EXPECT_THAT(Propose(&lookup, tokens, 2), IsEmpty());
  tokens.insert(tokens.end(), {2, 3});
  EXPECT_THAT(Propose(&lookup, tokens, 2), ElementsAre(9, 2));
}

// Tokens in common before `end` and before the end of `tokens`.
int32_t Common(const std::vector<int32_t>& tokens, int32_t end) {
  int32_t common = 0;
  while (common < end &&
         tokens[end - 1 - common] == tokens[tokens.size() - 1 - common]) {
    ++common;
  }
  return common;
}

// Against a search of the whole text: what is proposed follows an occurrence
// as long as any, as long as lengths are told apart.
TEST(PromptLookupTest, IsAsGoodAsASearchOfEverything) {
  std::mt19937_64 random(7);
  int64_t proposed = 0;
  for (int round = 0; round < 200; ++round) {
    PromptLookup lookup(400);
    std::vector<int32_t> tokens;
    while (tokens.size() < 300) {
      // Random, or some of what was there.
      const bool copy = tokens.size() > 20 && random() % 3 == 0;
      const size_t count = 1 + random() % 12;
      const size_t from = copy ? random() % (tokens.size() - 12) : 0;
      for (size_t i = 0; i < count; ++i) {
        tokens.push_back(copy ? tokens[from + i]
                              : static_cast<int32_t>(random() % 50));
      }
      const std::vector<int32_t> drafts = Propose(&lookup, tokens, 3);
      int32_t longest = 0;
      const int32_t size = static_cast<int32_t>(tokens.size());
      for (int32_t end = 1; end < size; ++end) {
        longest = std::max(longest, Common(tokens, end));
      }
      ASSERT_EQ(drafts.empty(), longest < PromptLookup::kMinMatch);
      if (drafts.empty()) continue;
      ++proposed;
      bool found = false;
      for (int32_t end = 1; end < size; ++end) {
        found |= tokens[end] == drafts[0] && Common(tokens, end) == longest;
      }
      ASSERT_TRUE(found) << "round " << round << ", " << size << " tokens";
    }
  }
  EXPECT_GT(proposed, 1000);
}

}  // namespace
}  // namespace descant
