// What is refused, and the parts that no golden shows.
#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

absl::Status LoadChanged(const std::function<void(json&)>& change) {
  json config = json::parse(GoldenTokenizer("smollm"));
  change(config);
  return Tokenizer::FromHuggingFace(config.dump(), "").status();
}

void ExpectRefused(absl::string_view name,
                   const std::function<void(json&)>& change) {
  const absl::Status status = LoadChanged(change);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(name)));
}

TEST(FromHuggingFaceTest, UnknownComponentsAreRefusedByName) {
  ASSERT_TRUE(LoadChanged([](json&) {}).ok());
  ExpectRefused("UnicodeScripts", [](json& j) {
    j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  });
  ExpectRefused("FixedLength", [](json& j) {
    j["pre_tokenizer"] = {{"type", "FixedLength"}, {"length", 5}};
  });
  ExpectRefused("Casefold", [](json& j) {
    j["normalizer"] = {{"type", "Casefold"}};
  });
  ExpectRefused("CTC", [](json& j) {
    j["decoder"] = {{"type", "CTC"}, {"pad_token", "<pad>"}};
  });
  ExpectRefused("Replace", [](json& j) {
    j["decoder"] = {{"type", "Sequence"},
                    {"decoders",
                     {{{"type", "Fuse"}},
                      {{"type", "Replace"},
                       {"pattern", {{"String", "a"}}},
                       {"content", "b"}}}}};
  });
  ExpectRefused("ByteFallback", [](json& j) {
    j["decoder"] = {
        {"type", "Sequence"},
        {"decoders", {{{"type", "ByteLevel"}}, {{"type", "ByteFallback"}}}}};
  });
  ExpectRefused("second post_processor", [](json& j) {
    const json bert = {
        {"type", "BertProcessing"}, {"cls", {"a", 0}}, {"sep", {"b", 1}}};
    j["post_processor"] = {{"type", "Sequence"}, {"processors", {bert, bert}}};
  });
  ExpectRefused("Markov", [](json& j) { j["model"]["type"] = "Markov"; });
  ExpectRefused("dropout", [](json& j) { j["model"]["dropout"] = 0.5; });
  ExpectRefused("nested", [](json& j) {
    json nested = {{"type", "NFC"}};
    for (int i = 0; i < 10; ++i) {
      nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
    }
    j["normalizer"] = nested;
  });
  ExpectRefused("more than 64", [](json& j) {
    j["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
    for (int i = 0; i < 65; ++i) {
      j["normalizer"]["normalizers"].push_back({{"type", "NFC"}});
    }
  });
}

TEST(FromHuggingFaceTest, MalformedFilesAreInvalidArguments) {
  const std::vector<std::function<void(json&)>> changes = {
      [](json& j) { j["model"].erase("vocab"); },
      [](json& j) { j["model"]["vocab"]["a"] = -1; },
      [](json& j) { j["model"]["vocab"]["a"] = 1e9; },
      [](json& j) { j["model"]["vocab"]["a"] = 1ull << 40; },
      [](json& j) { j["model"]["merges"][0] = "ab"; },
      [](json& j) { j["model"]["merges"][0] = {"a"}; },
      [](json& j) {
        j["model"]["merges"][0] = {"nowhere", "a"};
      },
      [](json& j) { j["model"]["ignore_merges"] = 3; },
      [](json& j) { j["added_tokens"] = 3; },
      [](json& j) { j["added_tokens"][0]["content"] = ""; },
      [](json& j) { j["added_tokens"][0]["id"] = 99; },
      [](json& j) { j["added_tokens"][0].erase("id"); },
      [](json& j) { j["pre_tokenizer"] = "ByteLevel"; },
      [](json& j) { j["pre_tokenizer"]["pretokenizers"] = 1; },
      [](json& j) { j["pre_tokenizer"]["pretokenizers"][0] = nullptr; },
      [](json& j) {
        j["post_processor"] = {{"type", "TemplateProcessing"}};
      },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    EXPECT_EQ(LoadChanged(changes[i]).code(),
              absl::StatusCode::kInvalidArgument)
        << i;
  }
  for (const char* text : {"", "[]", "{", "null", "\xff"}) {
    EXPECT_EQ(Tokenizer::FromHuggingFace(text, "").status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(FromHuggingFaceTest, ReadsTheConfig) {
  const std::string file = GoldenTokenizer("smollm");
  const auto tokenizer = Tokenizer::FromHuggingFace(
      file,
      R"({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
          "pad_token": null, "chat_template": [
          {"name": "tool_use", "template": "T"},
          {"name": "default", "template": "D"}]})");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 1);
  EXPECT_EQ((*tokenizer)->eos_id(), 2);
  EXPECT_EQ((*tokenizer)->pad_id(), std::nullopt);
  EXPECT_EQ((*tokenizer)->chat_template(), "D");
  EXPECT_EQ((*tokenizer)->tool_use_template(), "T");
  EXPECT_FALSE(
      Tokenizer::FromHuggingFace(file, R"({"eos_token": "nowhere"})").ok());
  EXPECT_FALSE(Tokenizer::FromHuggingFace(file, "[]").ok());
}

// Two bytes, one merge, one control token.
GgufVocabulary SmallVocabulary() {
  GgufVocabulary vocabulary;
  vocabulary.tokens = {"a", "b", "ab", "<s>", "u v"};
  vocabulary.token_types = {1, 1, 1, 3, 4};
  vocabulary.merges = {"a b"};
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  vocabulary.bos = 3;
  vocabulary.eos = 0;
  return vocabulary;
}

TEST(FromGgufTest, AddsBosAndEosWhereAsked) {
  GgufVocabulary vocabulary = SmallVocabulary();
  vocabulary.add_bos = true;
  vocabulary.add_eos = true;
  const auto tokenizer = Tokenizer::FromGguf(vocabulary);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("aab<s>u v"),
              ElementsAre(3, 0, 2, 3, 4, 0));
  EXPECT_THAT(*(*tokenizer)->Encode("<s>ab", {.add_special_tokens = false}),
              ElementsAre(3, 2));
  // A user-defined token is found also where special ones are text.
  EXPECT_THAT(*(*tokenizer)
                   ->Encode("ab<s>u v", {.add_special_tokens = false,
                                         .parse_special = false}),
              ElementsAre(2, 4));
  EXPECT_EQ((*tokenizer)->Decode({3, 4, 2}, true), "u vab");
  EXPECT_EQ((*tokenizer)->Decode({3, 2, 99, -1}, false), "<s>ab");
}

TEST(FromGgufTest, RefusesWhatItDoesNotKnow) {
  const auto code = [](const std::function<void(GgufVocabulary&)>& change) {
    GgufVocabulary vocabulary = SmallVocabulary();
    change(vocabulary);
    return Tokenizer::FromGguf(vocabulary).status().code();
  };
  EXPECT_EQ(code([](auto& v) { v.pre = "falcon"; }),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code([](auto& v) { v.pre = ""; }),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code([](auto& v) { v.model = "bert"; }),
            absl::StatusCode::kUnimplemented);
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code([](auto& v) { v.tokens.clear(); }), kInvalid);
  EXPECT_EQ(code([](auto& v) { v.token_types.pop_back(); }), kInvalid);
  EXPECT_EQ(code([](auto& v) { v.tokens[1] = "a"; }), kInvalid);
  EXPECT_EQ(code([](auto& v) { v.merges[0] = "a"; }), kInvalid);
  EXPECT_EQ(code([](auto& v) { v.merges[0] = "b a"; }), kInvalid);
  EXPECT_EQ(code([](auto& v) { v.eos = 5; }), kInvalid);
  EXPECT_EQ(code([](auto& v) {
              v.add_bos = true;
              v.bos = -1;
            }),
            kInvalid);
}

TEST(EncodeTest, RefusesInvalidUtf8) {
  const auto tokenizer = *Tokenizer::FromGguf(SmallVocabulary());
  for (const char* text : {"a\xff", "\xed\xa0\x80", "\xc0\x80", "\xe2\x82"}) {
    EXPECT_EQ(tokenizer->Encode(text).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(tokenizer->Encode(absl::string_view("a\0b", 3)).ok());
}

}  // namespace
}  // namespace descant
