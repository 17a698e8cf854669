// Outputs of drafts: each is what the sequence would sample without drafts once
// it came there, and those behind a wrong draft are no results.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/sampler.h"

namespace descant {
namespace {

constexpr int32_t kVocab = 32;
constexpr int32_t kPrompt = 5;

class SamplerDraftsTest : public testing::Test {
 protected:
  SamplerDraftsTest() : scratch_(kVocab) {
    std::mt19937 random(3);
    logits_.resize(8, std::vector<float>(kVocab));
    for (std::vector<float>& row : logits_) {
      for (float& logit : row)
        logit = static_cast<float>(random() % 1000) / 200;
    }
  }

  // One sequence, whose tokens are history_, with these drafts behind them.
  void MakeBatch(const std::vector<int32_t>& drafts) {
    batch_ = {};
    const int32_t known = static_cast<int32_t>(history_.size());
    batch_.tokens = {history_.back()};
    batch_.tokens.insert(batch_.tokens.end(), drafts.begin(), drafts.end());
    BatchSequence& sequence = batch_.sequences.emplace_back();
    sequence.row_end = sequence.output_end =
        static_cast<int32_t>(batch_.tokens.size());
    for (int32_t row = 0; row < sequence.row_end; ++row) {
      batch_.positions.push_back(known - 1 + row);
      batch_.output_rows.push_back(row);
    }
    sequence.output = OutputKind::kTokens;
    sequence.computed_length = known - 1;
    sequence.generated = known - kPrompt;
    sequence.sampling = &sampling_;
    sequence.history = history_.data();
    sequence.prompt_length = kPrompt;
    if (sequence.generated < sampling_.min_tokens) sequence.banned = &banned_;
    LayOutStepOutput(batch_, kVocab, &output_);
  }

  // The tokens that the step gives. Row i has the logits of position i of the
  // answer, whatever the tokens are.
  std::vector<int32_t> Sample() {
    const BatchSequence& sequence = batch_.sequences[0];
    bool more = true;
    for (int32_t i = 0; more && i < sequence.output_end; ++i) {
      more = SampleOutput(batch_, 0, i, batch_.tokens[i],
                          logits_[sequence.generated + i], &scratch_, &output_);
    }
    std::vector<int32_t> tokens;
    for (int32_t i = output_.sequences[0].begin; i < output_.sequences[0].end;
         ++i) {
      tokens.push_back(output_.sampled[i].token);
    }
    return tokens;
  }

  // Four tokens, one a step.
  std::vector<int32_t> OneByOne() {
    const std::vector<int32_t> before = history_;
    std::vector<int32_t> tokens;
    for (int i = 0; i < 4; ++i) {
      MakeBatch({});
      tokens.push_back(Sample().at(0));
      history_.push_back(tokens.back());
    }
    history_ = before;
    return tokens;
  }

  // What the sequence gives one by one, it gives with these tokens as drafts,
  // and with any of them replaced as far as it was right.
  void ExpectAsOneByOne() {
    const std::vector<int32_t> expected = OneByOne();
    std::vector<int32_t> drafts(expected.begin(), expected.end() - 1);
    MakeBatch(drafts);
    EXPECT_EQ(Sample(), expected);
    for (size_t wrong = 0; wrong < drafts.size(); ++wrong) {
      std::vector<int32_t> some = drafts;
      some[wrong] = (some[wrong] + 1) % kVocab;
      MakeBatch(some);
      const auto end = expected.begin() + static_cast<ptrdiff_t>(wrong) + 1;
      EXPECT_EQ(Sample(), std::vector<int32_t>(expected.begin(), end));
    }
  }

  SamplingParams sampling_;
  std::vector<int32_t> banned_ = {7, 8, 9};
  std::vector<int32_t> history_ = {1, 2, 3, 4, 5, 6};
  std::vector<std::vector<float>> logits_;
  SamplerScratch scratch_;
  Batch batch_;
  StepOutput output_;
};

TEST_F(SamplerDraftsTest, Greedy) {
  sampling_.temperature = 0;
  ExpectAsOneByOne();
}

TEST_F(SamplerDraftsTest, SampledWithTheNoiseOfThePosition) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    sampling_.seed = seed;
    ExpectAsOneByOne();
  }
}

TEST_F(SamplerDraftsTest, PenaltiesCountTheDraftsBefore) {
  // All rows prefer the same tokens, so that penalties decide.
  for (std::vector<float>& row : logits_) row = logits_[0];
  sampling_.temperature = 0;
  sampling_.frequency_penalty = 1.5f;
  ExpectAsOneByOne();
  sampling_.frequency_penalty = 0;
  sampling_.presence_penalty = 2.0f;
  ExpectAsOneByOne();
  sampling_.presence_penalty = 0;
  sampling_.repetition_penalty = 3.0f;
  ExpectAsOneByOne();
  const std::vector<int32_t> tokens = OneByOne();
  EXPECT_NE(tokens[0], tokens[1]);
}

TEST_F(SamplerDraftsTest, BansEndWithinADraft) {
  sampling_.temperature = 0;
  for (std::vector<float>& row : logits_) row[8] = 100;
  sampling_.min_tokens = 3;
  ExpectAsOneByOne();
  const std::vector<int32_t> tokens = OneByOne();
  EXPECT_NE(tokens[1], 8);
  EXPECT_EQ(tokens[2], 8);
}

TEST_F(SamplerDraftsTest, LogprobsToo) {
  sampling_.temperature = 0;
  sampling_.top_logprobs = 2;
  const std::vector<int32_t> expected = OneByOne();
  MakeBatch({expected[0], expected[1]});
  ASSERT_EQ(Sample().size(), 3u);
  const std::vector<SampledToken> sampled = output_.sampled;
  const std::vector<TokenLogprob> top = output_.top;
  for (size_t i = 0; i < 3; ++i) {
    MakeBatch({});
    Sample();
    EXPECT_EQ(output_.sampled[0].logprob, sampled[i].logprob);
    EXPECT_EQ(output_.top[1].token, top[sampled[i].top_begin + 1].token);
    EXPECT_EQ(output_.top[1].logprob, top[sampled[i].top_begin + 1].logprob);
    history_.push_back(expected[i]);
  }
}

// It is no result, and not the sequence's own until it shows without drafts.
TEST_F(SamplerDraftsTest, AFaultEndsTheResults) {
  sampling_.temperature = 0;
  const std::vector<int32_t> expected = OneByOne();
  logits_[3][4] = std::numeric_limits<float>::quiet_NaN();
  MakeBatch({expected[0], expected[1], expected[2]});
  EXPECT_EQ(Sample(), std::vector<int32_t>({expected[0], expected[1]}));
  EXPECT_FALSE(output_.sequences[0].numeric_fault);
  logits_[1][4] = std::numeric_limits<float>::infinity();
  MakeBatch({expected[0]});
  EXPECT_TRUE(Sample().empty());
  EXPECT_FALSE(output_.sequences[0].numeric_fault);
  MakeBatch({});
  Sample();
  EXPECT_TRUE(output_.sequences[0].numeric_fault);
}

}  // namespace
}  // namespace descant
