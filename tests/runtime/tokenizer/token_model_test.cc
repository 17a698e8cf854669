// What the goldens don't show of models, normalizers and decoders: loading by
// scores, refusals, single tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/match.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/detokenizer.h"
#include "runtime/tokenizer/precompiled_map.h"
#include "runtime/tokenizer/unigram.h"
#include "runtime/tokenizer/word_piece.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using Ids = std::vector<int32_t>;

Ids Encode(const TokenModel& model, absl::string_view piece) {
  ModelScratch scratch;
  Ids ids;
  const absl::Status status = model.Encode(piece, &scratch, &ids);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}

absl::StatusCode EncodeCode(const TokenModel& model, absl::string_view piece) {
  ModelScratch scratch;
  Ids ids;
  return model.Encode(piece, &scratch, &ids).code();
}

BpeModel::Options Characters() {
  BpeModel::Options options;
  options.byte_level = false;
  return options;
}

TEST(BpeFromScoresTest, HighestScoreFirstThenLeftmost) {
  const TokenVocabulary vocabulary = {{"a", 0},  {"b", 1},  {"c", 2},
                                      {"ab", 3}, {"bc", 4}, {"abc", 5},
                                      {"aa", 6}};
  const std::vector<float> scores = {-9, -9, -9, -2, -1, -3, -4};
  const auto model =
      BpeModel::CreateFromScores(vocabulary, scores, {}, Characters());
  ASSERT_TRUE(model.ok()) << model.status();
  // bc before ab; then a + bc, by another split than ab + c.
  EXPECT_THAT(Encode(**model, "abc"), ElementsAre(5));
  EXPECT_THAT(Encode(**model, "aab"), ElementsAre(0, 3));
  EXPECT_THAT(Encode(**model, "aaa"), ElementsAre(6, 0));
  const auto without = BpeModel::CreateFromScores(
      vocabulary, scores, {false, false, false, false, true}, Characters());
  EXPECT_THAT(Encode(**without, "bc"), ElementsAre(1, 2));
}

// The merges that Transformers writes down give what the scores give.
TEST(BpeFromScoresTest, EqualsTheMergesOfARealVocabulary) {
  const json file = json::parse(GoldenTokenizer("llama2"));
  TokenVocabulary vocabulary;
  BpeModel::Merges merges;
  for (const auto& [token, id] : file["model"]["vocab"].items()) {
    vocabulary.emplace(token, id.get<int32_t>());
  }
  for (const json& merge : file["model"]["merges"]) {
    merges.emplace_back(merge[0], merge[1]);
  }
  // SentencePiece's scores fall with the rank, which is the order of ids.
  std::vector<float> scores(vocabulary.size());
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = -float(i);
  const auto by_rank = *BpeModel::Create(vocabulary, merges, Characters());
  const auto by_score =
      *BpeModel::CreateFromScores(vocabulary, scores, {}, Characters());
  for (const json& item :
       ReadSourceJson("tests/golden/data/tokenizer_corpus.json")) {
    const std::string text = item;
    // Runs of spaces have one score for all, so they come in another order.
    if (absl::StrContains(text, "\xe2\x96\x81\xe2\x96\x81")) continue;
    EXPECT_EQ(Encode(*by_score, text), Encode(*by_rank, text));
  }
}

TEST(BpeFromScoresTest, RefusesScoresThatAreNoNumbers) {
  const TokenVocabulary vocabulary = {{"a", 0}, {"b", 1}};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::vector<float>& scores :
       {std::vector<float>{0}, std::vector<float>{0, nan}}) {
    EXPECT_EQ(BpeModel::CreateFromScores(vocabulary, scores, {}, Characters())
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(BpeTest, PrefixAndSuffixAndUnknown) {
  BpeModel::Options options = Characters();
  options.continuing_subword_prefix = "##";
  options.end_of_word_suffix = "</w>";
  const TokenVocabulary vocabulary = {
      {"a", 0}, {"##b", 1}, {"##c</w>", 2}, {"ab", 3}, {"a</w>", 4}};
  const auto model = BpeModel::Create(vocabulary, {{"a", "##b"}}, options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(Encode(**model, "abc"), ElementsAre(3, 2));
  EXPECT_THAT(Encode(**model, "a"), ElementsAre(4));
  EXPECT_THAT(Encode(**model, "azc"), ElementsAre(0, 2));
  options.refuse_unknown = true;
  const auto strict = *BpeModel::Create(vocabulary, {}, options);
  EXPECT_EQ(EncodeCode(*strict, "azc"), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(BpeModel::Create(vocabulary, {{"a", "b"}}, options).ok());
}

TEST(UnigramTest, RefusesWhatItCannotUse) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(UnigramModel::Create({{"a", -infinity}}, {}).ok());
  EXPECT_FALSE(UnigramModel::Create({{"a", 0}}, {.unknown_id = 1}).ok());
  const auto model = *UnigramModel::Create({{"a", -1}, {"aa", -1.5}}, {});
  // Of the two equal paths the one whose last token begins first.
  EXPECT_THAT(Encode(*model, "aaa"), ElementsAre(0, 1));
  EXPECT_EQ(EncodeCode(*model, "ab"), absl::StatusCode::kInvalidArgument);
}

TEST(WordPieceTest, WithoutUnknownTokenUnknownWordsAreRefused) {
  const auto model = WordPieceModel::Create({{"a", 0}, {"##b", 1}}, {});
  EXPECT_THAT(Encode(*model, "ab"), ElementsAre(0, 1));
  EXPECT_EQ(EncodeCode(*model, "ac"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EncodeCode(*model, std::string(101, 'a')),
            absl::StatusCode::kInvalidArgument);
}

TEST(PrecompiledMapTest, RefusesWhatDoesNotFitTogether) {
  for (const absl::string_view bytes :
       {absl::string_view(""), absl::string_view("\0\0\0\0", 4),
        absl::string_view("\3\0\0\0abc", 7),
        absl::string_view("\4\0\0\0abc", 7),
        absl::string_view("\4\0\0\0abcd\xff", 9)}) {
    EXPECT_EQ(PrecompiledMap::Parse(bytes).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  // A trie that points outside of itself matches nothing.
  const std::string wild("\4\0\0\0\xff\xff\xff\x7fxyz", 11);
  const auto map = PrecompiledMap::Parse(wild);
  ASSERT_TRUE(map.ok()) << map.status();
  size_t origin = 1;
  EXPECT_EQ(*map->Apply("ab\xcc\x81", 100, &origin), "ab\xcc\x81");
  EXPECT_EQ(origin, 1u);
}

std::unique_ptr<Tokenizer> Load(const char* name) {
  auto tokenizer = Tokenizer::FromHuggingFace(GoldenTokenizer(name), "");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(TokenBytesTest, AreWhatATokenAddsWithinAText) {
  const auto bytes = [](const Tokenizer& tokenizer, const char* token) {
    return std::string(tokenizer.TokenBytes(*tokenizer.TokenId(token)));
  };
  const auto llama = Load("llama2");
  EXPECT_EQ(bytes(*llama, "<0xE4>"), "\xe4");
  EXPECT_EQ(bytes(*llama, "\xe2\x96\x81the"), " the");
  EXPECT_EQ(bytes(*llama, "</s>"), "</s>");
  EXPECT_EQ(llama->TokenBytes(-1), "");
  EXPECT_EQ(llama->TokenBytes(1 << 25), "");
  const auto bert = Load("bert");
  EXPECT_EQ(bytes(*bert, "the"), " the");
  EXPECT_EQ(bytes(*bert, "##s"), "s");
  EXPECT_EQ(bytes(*bert, "[SEP]"), "[SEP]");
  const auto gpt = Load("gpt2");
  EXPECT_EQ(bytes(*gpt, "\xc4\xa0the"), " the");
}

TEST(MaxBytesPerTokenTest, NoneWhereATokenMayCoverAnyText) {
  EXPECT_EQ(Load("bert")->max_bytes_per_token(), std::nullopt);
  EXPECT_EQ(Load("t5")->max_bytes_per_token(), std::nullopt);
  EXPECT_EQ(Load("clip")->max_bytes_per_token(), std::nullopt);
  EXPECT_GE(Load("gpt2")->max_bytes_per_token().value_or(0), 13u);
  EXPECT_GE(Load("llama2")->max_bytes_per_token().value_or(0), 16u);
}

// A run of byte tokens is one U+FFFD a byte as soon as it isn't UTF-8.
TEST(DetokenizerTest, ByteTokensWaitForTheEndOfTheirRun) {
  const auto tokenizer = Load("llama2");
  const auto id = [&](const char* token) { return *tokenizer->TokenId(token); };
  IncrementalDetokenizer stream(tokenizer.get(), true);
  EXPECT_EQ(stream.Append(id("\xe2\x96\x81")), "");
  EXPECT_EQ(stream.Append(id("<0xC3>")), "");
  EXPECT_EQ(stream.Append(id("<0xA9>")), "");
  EXPECT_EQ(stream.Append(id("a")),
            "\xc3\xa9"
            "a");
  EXPECT_EQ(stream.Append(id("<0xC3>")), "");
  EXPECT_EQ(stream.Append(id("<0xA9>")), "");
  EXPECT_EQ(stream.Append(id("<0xC3>")), "");
  EXPECT_EQ(stream.Flush(), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  // As new: the leading space goes again.
  EXPECT_EQ(stream.Append(id("\xe2\x96\x81the")), "the");
}

// The file's ids must be those that Hugging Face would give.
TEST(AddedTokensTest, IdsThatDoNotFollowTheVocabularyAreRefused) {
  json file = json::parse(GoldenTokenizer("gpt2"));
  const auto size = file["model"]["vocab"].size();
  for (const size_t offset : {0, 1}) {
    file["added_tokens"] = json::array(
        {{{"id", size + offset}, {"content", "<new>"}, {"special", true}}});
    EXPECT_EQ(Tokenizer::FromHuggingFace(file.dump(), "").ok(), offset == 0);
  }
}

}  // namespace
}  // namespace descant
