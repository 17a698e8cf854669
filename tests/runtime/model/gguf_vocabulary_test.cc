// Vocabularies as llama.cpp's converter stores them, against Hugging Face
// `tokenizers` on the same vocabulary's tokenizer.json
// (tests/golden/make_gguf_vocabularies.py).
#include "runtime/model/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adapters/formats/gguf.h"
#include "runtime/tokenizer/gguf_tokenizer_json.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using Json = nlohmann::json;

Json GoldenJson(const std::string& name) {
  return Json::parse(
      ReadFileOrDie(SourcePath("tests/golden/data/" + name + ".json")));
}

absl::StatusOr<GgufVocabulary> VocabularyNamed(const std::string& name) {
  const auto file =
      GgufFile::Open(SourcePath("tests/golden/gguf/vocab-" + name + ".gguf"));
  if (!file.ok()) return file.status();
  return ReadGgufVocabulary((*file)->index(), name);
}

class GgufVocabularyTest : public testing::TestWithParam<const char*> {};

void ExpectEqualsHuggingFace(const Tokenizer& tokenizer,
                             const std::string& name) {
  const Json texts = GoldenJson("gguf_vocab_texts");
  const Json cases = GoldenJson("gguf_vocab_" + name);
  ASSERT_EQ(texts.size(), cases.size());
  ASSERT_GT(texts.size(), 200u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const auto ids = tokenizer.Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, cases[i][0].get<std::vector<int32_t>>())
        << "text " << i << ": " << texts[i].dump();
    EXPECT_EQ(tokenizer.Decode(*ids, /*skip_special_tokens=*/true),
              cases[i][1].get<std::string>())
        << "text " << i << ": " << texts[i].dump();
  }
}

TEST_P(GgufVocabularyTest, EqualsHuggingFaceOnTheHardCorpus) {
  auto vocabulary = VocabularyNamed(GetParam());
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const auto tokenizer = Tokenizer::FromGguf(*std::move(vocabulary));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectEqualsHuggingFace(**tokenizer, GetParam());
}

// As an export writes it.
TEST_P(GgufVocabularyTest, TokenizerJsonMeansTheSame) {
  const auto vocabulary = VocabularyNamed(GetParam());
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const auto json = TokenizerJsonOfGguf(*vocabulary);
  ASSERT_TRUE(json.ok()) << json.status();
  const auto tokenizer =
      Tokenizer::FromHuggingFace(json->tokenizer, json->config);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectEqualsHuggingFace(**tokenizer, GetParam());
  const auto original = Tokenizer::FromGguf(*vocabulary);
  EXPECT_EQ((*tokenizer)->bos_id(), (*original)->bos_id());
  EXPECT_EQ((*tokenizer)->eos_id(), (*original)->eos_id());
  EXPECT_EQ((*tokenizer)->pad_id(), (*original)->pad_id());
  EXPECT_EQ((*tokenizer)->unk_id(), (*original)->unk_id());
}

INSTANTIATE_TEST_SUITE_P(All, GgufVocabularyTest,
                         testing::Values("gpt-2", "smollm", "llama-bpe", "dbrx",
                                         "qwen2", "tekken", "gpt-4o", "default",
                                         "deepseek-llm", "deepseek-coder",
                                         "deepseek-v3", "spm-llama",
                                         "spm-gemma", "spm-phi3"));

TEST(GgufEndTokensTest, KeysAndTurnEnds) {
  const auto file =
      GgufFile::Open(SourcePath("tests/golden/gguf/vocab-spm-phi3.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto vocabulary = ReadGgufVocabulary((*file)->index(), "phi3");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const std::vector<int32_t> ids = GgufEndTokens((*file)->index(), *vocabulary);
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(vocabulary->tokens[ids[0]], "</s>");
  EXPECT_EQ(vocabulary->tokens[ids[1]], "<|end|>");
}

TEST(GgufVocabularyErrorsTest, BadVocabulariesAreRefused) {
  const auto code = [](void (*edit)(GgufVocabulary*)) {
    GgufVocabulary vocabulary = *VocabularyNamed("spm-llama");
    edit(&vocabulary);
    return Tokenizer::FromGguf(std::move(vocabulary)).status().code();
  };
  EXPECT_EQ(code([](GgufVocabulary*) {}), absl::StatusCode::kOk);
  EXPECT_EQ(code([](GgufVocabulary* v) { v->scores.pop_back(); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](GgufVocabulary* v) { v->scores[300] = NAN; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](GgufVocabulary* v) { v->tokens[300] = v->tokens[301]; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](GgufVocabulary* v) { v->bos = 1 << 20; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](GgufVocabulary* v) { v->token_types.pop_back(); }),
            absl::StatusCode::kInvalidArgument);
  for (const char* model : {"bert", "t5", "rwkv", "gemma4", "plamo2", "none"}) {
    GgufVocabulary vocabulary = *VocabularyNamed("spm-llama");
    vocabulary.model = model;
    const absl::Status status =
        Tokenizer::FromGguf(std::move(vocabulary)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_NE(status.message().find(model), absl::string_view::npos) << status;
  }
}

// What llama.cpp adds where the file has no key for it.
TEST(GgufVocabularyErrorsTest, BosByDefault) {
  for (const auto& [name, added] :
       {std::pair{"spm-llama", true}, {"llama-bpe", true}, {"gpt-2", false}}) {
    GgufVocabulary vocabulary = *VocabularyNamed(name);
    vocabulary.add_bos.reset();
    const int bos = vocabulary.bos;
    const auto tokenizer = Tokenizer::FromGguf(std::move(vocabulary));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto ids = (*tokenizer)->Encode("the");
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(ids->front() == bos, added) << name;
  }
}

}  // namespace
}  // namespace descant
