// Against Hugging Face `tokenizers`: whole tokenizers on the golden corpus,
// single components on random texts, and the demo model's own vocabulary.
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_format.h"
#include "runtime/tokenizer/detokenizer.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> Load(const std::string& name) {
  if (name == "smollm2") {
    auto vocabulary = DemoVocabulary();
    EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
    auto tokenizer = Tokenizer::FromGguf(*std::move(vocabulary));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *std::move(tokenizer);
  }
  auto tokenizer = Tokenizer::FromHuggingFace(GoldenTokenizer(name), "");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

struct GoldenCase {
  std::string text;
  json ids;
  json ids_without_special;
  json ids_special_as_text;
  std::string decoded;  // digests
  std::string decoded_skip_special;
};

// FNV-1a, as in tests/golden/make_tokenizer_golden.py.
std::string Digest(absl::string_view bytes) {
  uint64_t value = 0xcbf29ce484222325;
  for (const char c : bytes) {
    value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return absl::StrFormat("%016x", value);
}

// Long results are stored as their count and digest.
json Stored(const Ids& ids) {
  if (ids.size() <= 24) return ids;
  std::string bytes;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      bytes.push_back(static_cast<char>(id >> shift));
    }
  }
  return json::array({ids.size(), Digest(bytes)});
}

const json& Corpus() {
  static const json* const corpus =
      new json(ReadSourceJson("tests/golden/data/tokenizer_corpus.json"));
  return *corpus;
}

json Golden(const std::string& name) {
  return ReadSourceJson("tests/golden/data/tokenizer_" + name + ".json");
}

std::vector<GoldenCase> Cases(const std::string& name) {
  const json golden = Golden(name);
  EXPECT_EQ(golden["cases"].size(), Corpus().size());
  EXPECT_GE(Corpus().size(), 600u);
  std::vector<GoldenCase> cases;
  for (size_t i = 0; i < Corpus().size(); ++i) {
    const json& stored = golden["cases"][i];
    cases.push_back(
        {Corpus()[i], stored[0], stored[1], stored[2], stored[3], stored[4]});
  }
  return cases;
}

// The deltas so far plus what is held back equal Decode at every prefix, and
// every delta is whole characters.
void ExpectIncrementalEqualsDecode(const Tokenizer& tokenizer, const Ids& ids,
                                   bool skip_special) {
  IncrementalDetokenizer detokenizer(&tokenizer, skip_special);
  std::string text;
  // Decode of each prefix is quadratic: of long texts, fewer prefixes.
  const size_t stride = 1 + ids.size() * ids.size() / 160000;
  for (size_t i = 0; i < ids.size(); ++i) {
    text += detokenizer.Append(ids[i]);
    if (i % stride != 0 && i + 1 != ids.size()) continue;
    IncrementalDetokenizer copy = detokenizer;
    ASSERT_EQ(text + copy.Flush(),
              tokenizer.Decode(absl::MakeSpan(ids).first(i + 1), skip_special));
  }
}

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, EncodesAndDecodesTheCorpusAsHuggingFaceDoes) {
  const auto tokenizer = Load(GetParam());
  for (const GoldenCase& item : Cases(GetParam())) {
    SCOPED_TRACE(json(item.text).dump(-1, ' ', true).substr(0, 300));
    const Ids ids = *tokenizer->Encode(item.text);
    EXPECT_EQ(Stored(ids), item.ids);
    EXPECT_EQ(
        Stored(*tokenizer->Encode(item.text, {.add_special_tokens = false})),
        item.ids_without_special);
    EXPECT_EQ(Stored(*tokenizer->Encode(item.text, {.add_special_tokens = false,
                                                    .parse_special = false})),
              item.ids_special_as_text);
    EXPECT_EQ(Digest(tokenizer->Decode(ids, false)), item.decoded)
        << tokenizer->Decode(ids, false).substr(0, 300);
    EXPECT_EQ(Digest(tokenizer->Decode(ids, true)), item.decoded_skip_special)
        << tokenizer->Decode(ids, true).substr(0, 300);
  }
}

TEST_P(GoldenTest, DecodesRandomIdsAsHuggingFaceDoes) {
  const auto tokenizer = Load(GetParam());
  const json decodes = Golden(GetParam())["decodes"];
  ASSERT_GE(decodes.size(), 50u);
  for (const json& item : decodes) {
    SCOPED_TRACE(item[0].dump());
    const Ids ids = item[0];
    EXPECT_EQ(tokenizer->Decode(ids, false), item[1].get<std::string>());
    EXPECT_EQ(tokenizer->Decode(ids, true), item[2].get<std::string>());
  }
}

TEST_P(GoldenTest, IncrementalDetokenizerEqualsDecodeOnEveryPrefix) {
  const auto tokenizer = Load(GetParam());
  for (const json& text : Corpus()) {
    const Ids ids = *tokenizer->Encode(text.get<std::string>());
    for (const bool skip_special : {false, true}) {
      ExpectIncrementalEqualsDecode(*tokenizer, ids, skip_special);
      if (HasFatalFailure()) return;
    }
  }
  // Random ids: most are not valid UTF-8 together.
  const uint32_t seed = 20261123;
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 rng(seed);
  for (int round = 0; round < 50; ++round) {
    Ids ids(40);
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(rng() % (tokenizer->vocab_size() + 5));
      if (rng() % 2 == 0) id = static_cast<int32_t>(rng() % 260);
    }
    ExpectIncrementalEqualsDecode(*tokenizer, ids, false);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenTest,
                         testing::Values("smollm2", "smollm", "gpt2",
                                         "gpt2-prefix", "llama2", "llama3",
                                         "mistral-v3", "mistral-tekken",
                                         "qwen2", "qwen3", "gemma", "phi3",
                                         "clip", "claude", "t5", "t5-legacy",
                                         "xlm-roberta", "albert", "bert",
                                         "openai-gpt", "word-level"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// A tokenizer.json: one of the golden file's bases with some members replaced.
json Patched(const json& base, const json& patch) {
  json config = base;
  for (const auto& [key, value] : patch.items()) {
    if (key == "model") {
      config[key].update(value);
    } else {
      config[key] = value;
    }
  }
  // Character maps are large: they are those of two whole tokenizers.
  json& normalizer = config["normalizer"];
  if (normalizer.is_object() && normalizer.contains("rule")) {
    if (normalizer["rule"] == "nmt_nfkc") {
      normalizer = json::parse(GoldenTokenizer("t5-legacy"))["normalizer"];
    } else {
      normalizer =
          json::parse(GoldenTokenizer("albert"))["normalizer"]["normalizers"]
              .back();
    }
  }
  return config;
}

void ExpectCase(const Tokenizer& tokenizer, const json& item) {
  const std::string text = item[0];
  SCOPED_TRACE(item[0].dump(-1, ' ', /*ensure_ascii=*/true));
  EXPECT_EQ(*tokenizer.Encode(text), item[1].get<Ids>());
  if (item.size() == 2) return;
  EXPECT_EQ(*tokenizer.Encode(
                text, {.add_special_tokens = false, .parse_special = false}),
            item[2].get<Ids>());
  EXPECT_EQ(tokenizer.Decode(item[1].get<Ids>(), true),
            item[3].get<std::string>());
}

void ExpectDecode(const Tokenizer& tokenizer, const json& item) {
  SCOPED_TRACE(item[0].dump());
  const Ids ids = item[0];
  EXPECT_EQ(tokenizer.Decode(ids, false), item[1].get<std::string>());
  EXPECT_EQ(tokenizer.Decode(ids, true), item[2].get<std::string>());
  ExpectIncrementalEqualsDecode(tokenizer, ids, false);
  ExpectIncrementalEqualsDecode(tokenizer, ids, true);
}

TEST(ComponentGoldenTest, EachComponentEqualsHuggingFace) {
  const json golden =
      ReadSourceJson("tests/runtime/tokenizer/component_golden.json");
  json bases = golden["bases"];
  bases["gpt2"] = json::parse(GoldenTokenizer("gpt2"));
  ASSERT_GE(golden["entries"].size(), 150u);
  for (const json& entry : golden["entries"]) {
    json shown = entry["patch"];
    shown.erase("model");
    SCOPED_TRACE(shown.dump());
    const auto tokenizer = Tokenizer::FromHuggingFace(
        Patched(bases[entry["base"].get<std::string>()], entry["patch"]).dump(),
        "");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    if (entry.contains("cases")) {
      for (const json& item : entry["cases"]) ExpectCase(**tokenizer, item);
    } else {
      for (const json& item : entry["decodes"]) {
        ExpectDecode(**tokenizer, item);
      }
    }
  }
}

TEST(DemoModelTest, KnowsItsSpecialTokens) {
  const auto tokenizer = Load("smollm2");
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(2));
  EXPECT_FALSE(tokenizer->IsSpecial(17));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_FALSE(tokenizer->IsSpecial(49152));
  EXPECT_EQ(tokenizer->TokenText(2), "<|im_end|>");
  EXPECT_EQ(tokenizer->TokenId("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer->TokenId("\xc4\xa0t"), 17 + 256 - 21 + 0);
}

}  // namespace
}  // namespace descant
