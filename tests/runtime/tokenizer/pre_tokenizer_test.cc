#include "runtime/tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <string>

namespace descant {
namespace {

std::vector<std::string> Split(const PreTokenizer& pre,
                               absl::string_view text) {
  std::vector<std::string> pieces;
  RegexScratch scratch;
  const auto status =
      pre.Split(text, 1, &scratch, [&](absl::string_view piece) {
        pieces.emplace_back(piece);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return pieces;
}

PreTokenizer One(absl::string_view pattern, SplitBehavior behavior,
                 bool invert = false) {
  SplitStep step{*Regex::Compile(pattern), behavior, invert};
  std::vector<PreTokenizerStep> steps;
  steps.push_back(std::move(step));
  return PreTokenizer(std::move(steps));
}

using Pieces = std::vector<std::string>;

// The example of Hugging Face's documentation of the behaviors.
TEST(PreTokenizerTest, Behaviors) {
  const absl::string_view text = "the-final--countdown";
  EXPECT_EQ(Split(One("-", SplitBehavior::kRemoved), text),
            (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(Split(One("-", SplitBehavior::kIsolated), text),
            (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(Split(One("-", SplitBehavior::kMergedWithPrevious), text),
            (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(Split(One("-", SplitBehavior::kMergedWithNext), text),
            (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(Split(One("-", SplitBehavior::kContiguous), text),
            (Pieces{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(Split(One("[^-]+", SplitBehavior::kRemoved, true), text),
            (Pieces{"the", "final", "countdown"}));
}

TEST(PreTokenizerTest, EmptyTextHasNoPieces) {
  ByteLevelStep step;
  step.add_prefix_space = true;
  std::vector<PreTokenizerStep> steps;
  steps.push_back(std::move(step));
  const PreTokenizer pre(std::move(steps));
  EXPECT_EQ(Split(pre, ""), Pieces{});
  EXPECT_EQ(Split(pre, "a"), Pieces{" a"});
  EXPECT_EQ(Split(pre, " a"), Pieces{" a"});
}

TEST(PreTokenizerTest, AFailingSinkEndsTheSplit) {
  const PreTokenizer pre = One("a", SplitBehavior::kIsolated);
  RegexScratch scratch;
  int calls = 0;
  const auto status = pre.Split("aaaa", 1, &scratch, [&](absl::string_view) {
    ++calls;
    return absl::CancelledError("enough");
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace descant
