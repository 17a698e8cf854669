#include "runtime/tokenizer/gguf_tokenizer_json.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/gguf_pre_tokenizers.h"
#include "runtime/tokenizer/known_patterns.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::string_view kSpace = "\xe2\x96\x81";  // SentencePiece's, U+2581

int32_t TypeOf(const GgufVocabulary& vocabulary, size_t id) {
  return vocabulary.token_types.empty() ? kGgufNormal
                                        : vocabulary.token_types[id];
}

bool IsSpaces(const std::string& text) {
  return !text.empty() && text.find_first_not_of(' ') == std::string::npos;
}

// A token as tokenizer.json spells it: converters to GGUF write SentencePiece's
// runs of spaces as spaces.
std::string SpellingOf(const GgufVocabulary& vocabulary, size_t id) {
  const std::string& text = vocabulary.tokens[id];
  if (vocabulary.model != "llama" ||
      TypeOf(vocabulary, id) != kGgufUserDefined || !IsSpaces(text)) {
    return text;
  }
  return absl::StrReplaceAll(text, {{" ", kSpace}});
}

Json VocabularyOf(const GgufVocabulary& vocabulary) {
  // (Its keys are unique; looking for each among the others takes too long.)
  Json::object_t tokens;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.tokens[id].empty()) {
      tokens.emplace_back(SpellingOf(vocabulary, id), id);
    }
  }
  return tokens;
}

Json AddedTokensOf(const GgufVocabulary& vocabulary) {
  Json added = Json::array();
  for (size_t id = 0; id < vocabulary.token_types.size(); ++id) {
    const int32_t type = vocabulary.token_types[id];
    const std::string& text = vocabulary.tokens[id];
    if (text.empty() || (type != kGgufUnknown && type != kGgufControl &&
                         type != kGgufUserDefined)) {
      continue;
    }
    added.push_back(
        {{"id", id},
         {"content", SpellingOf(vocabulary, id)},
         {"single_word", false},
         {"lstrip", false},
         {"rstrip", vocabulary.specials_strip_right && text != "<s>" &&
                        text != "<unk>" && text != "<|endoftext|>"},
         {"normalized", false},
         {"special", type != kGgufUserDefined}});
  }
  return added;
}

Json ByteLevelMerges(const GgufVocabulary& vocabulary) {
  Json merges = Json::array();
  for (const std::string& merge : vocabulary.merges) merges.push_back(merge);
  return merges;
}

int64_t Characters(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c & 0xc0) != 0x80; });
}

struct ScoredMerge {
  float score;
  size_t left, right;  // ids
  int64_t left_size, right_size;
};

// Every two tokens that may become a third, in the order of converters from
// SentencePiece: the highest score first (a run of spaces has the highest), of
// equal ones the longest.
Json ScoredMerges(const GgufVocabulary& vocabulary) {
  std::vector<std::string> texts;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    texts.push_back(SpellingOf(vocabulary, id));
  }
  absl::flat_hash_map<absl::string_view, size_t> ids;
  for (size_t id = 0; id < texts.size(); ++id) ids.emplace(texts[id], id);
  std::vector<ScoredMerge> merges;
  for (size_t id = 0; id < texts.size(); ++id) {
    const absl::string_view text = texts[id];
    const bool is_run = text != vocabulary.tokens[id];
    if (!is_run && TypeOf(vocabulary, id) != kGgufNormal) continue;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = ids.find(text.substr(0, cut));
      const auto right = ids.find(text.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({is_run ? std::numeric_limits<float>::infinity()
                               : vocabulary.scores[id],
                        left->second, right->second, Characters(left->first),
                        Characters(right->first)});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const ScoredMerge& a, const ScoredMerge& b) {
                     return std::tie(a.score, a.left_size, a.right_size) >
                            std::tie(b.score, b.left_size, b.right_size);
                   });
  Json result = Json::array();
  for (const ScoredMerge& merge : merges) {
    result.push_back(Json::array({texts[merge.left], texts[merge.right]}));
  }
  return result;
}

Json SplitBy(absl::string_view pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", std::string(pattern)}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

// ByteLevel splits by GPT-2's pattern itself where that comes last.
Json PreTokenizerOf(const GgufPreTokenizer& pre) {
  Json steps = Json::array();
  std::vector<absl::string_view> patterns;
  for (const absl::string_view pattern : pre.patterns) {
    if (!pattern.empty()) patterns.push_back(pattern);
  }
  const bool ends_as_gpt2 =
      !patterns.empty() && patterns.back() == kGpt2Pattern;
  if (ends_as_gpt2) patterns.pop_back();
  for (const absl::string_view pattern : patterns) {
    if (pattern == kDigitPattern) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      steps.push_back(SplitBy(pattern));
    }
  }
  steps.push_back(ByteLevel(ends_as_gpt2));
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Json Replace(absl::string_view from, absl::string_view to) {
  return {{"type", "Replace"},
          {"pattern", {{"String", std::string(from)}}},
          {"content", std::string(to)}};
}

Json Sequence(const char* key, Json steps) {
  return {{"type", "Sequence"}, {key, std::move(steps)}};
}

// As Llama 2's tokenizer.json has it; without the space before, as Gemma's.
void SetSentencePiece(const GgufVocabulary& vocabulary, Json* root) {
  Json normalizer = Json::array();
  Json decoder = Json::array(
      {Replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (vocabulary.add_space_prefix) {
    normalizer.push_back(
        {{"type", "Prepend"}, {"prepend", std::string(kSpace)}});
    decoder.push_back(
        {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizer.push_back(Replace(" ", kSpace));
  (*root)["normalizer"] = Sequence("normalizers", std::move(normalizer));
  (*root)["pre_tokenizer"] = nullptr;
  (*root)["decoder"] = Sequence("decoders", std::move(decoder));
}

Json ModelOf(const GgufVocabulary& vocabulary, bool ignore_merges) {
  const bool sentence_piece = vocabulary.model == "llama";
  Json unknown;
  if (sentence_piece && vocabulary.unk >= 0) {
    unknown = vocabulary.tokens[vocabulary.unk];
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", sentence_piece},
          {"byte_fallback", sentence_piece},
          {"ignore_merges", ignore_merges},
          {"vocab", VocabularyOf(vocabulary)},
          {"merges", sentence_piece ? ScoredMerges(vocabulary)
                                    : ByteLevelMerges(vocabulary)}};
}

// Tokens before and after each text; null: none.
Json PostProcessorOf(const GgufVocabulary& vocabulary, bool add_bos) {
  const bool add_eos = vocabulary.add_eos.value_or(false);
  if (!add_bos && !add_eos) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto special = [&](int32_t id, int type_id) {
    const std::string& text = vocabulary.tokens[id];
    tokens[text] = {{"id", text},
                    {"ids", Json::array({id})},
                    {"tokens", Json::array({text})}};
    return Json{{"SpecialToken", {{"id", text}, {"type_id", type_id}}}};
  };
  const auto add = [&](const char* which, int type_id, Json* steps) {
    if (add_bos) steps->push_back(special(vocabulary.bos, type_id));
    steps->push_back({{"Sequence", {{"id", which}, {"type_id", type_id}}}});
    if (add_eos) steps->push_back(special(vocabulary.eos, type_id));
  };
  add("A", 0, &single);
  add("A", 0, &pair);
  add("B", 1, &pair);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

std::string ConfigOf(const GgufVocabulary& vocabulary) {
  Json root = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"clean_up_tokenization_spaces", false}};
  const std::pair<const char*, int32_t> tokens[] = {
      {"bos_token", vocabulary.bos},
      {"eos_token", vocabulary.eos},
      {"pad_token", vocabulary.pad},
      {"unk_token", vocabulary.unk}};
  for (const auto& [name, id] : tokens) {
    if (id >= 0) root[name] = vocabulary.tokens[id];
  }
  return root.dump(2) + "\n";
}

// Of a vocabulary that Tokenizer::FromGguf takes, everything else is sound.
absl::Status CheckText(const GgufVocabulary& vocabulary) {
  for (const auto* texts : {&vocabulary.tokens, &vocabulary.merges}) {
    for (const std::string& text : *texts) {
      if (!IsValidUtf8(text)) {
        return absl::InvalidArgumentError(
            "the vocabulary has a token that is not UTF-8, as tokenizer.json "
            "must be");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufTokenizerJson> TokenizerJsonOfGguf(
    const GgufVocabulary& vocabulary) {
  DESCANT_RETURN_IF_ERROR(Tokenizer::FromGguf(vocabulary).status());
  DESCANT_RETURN_IF_ERROR(CheckText(vocabulary));
  Json root = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", AddedTokensOf(vocabulary)},
               {"normalizer", nullptr}};
  bool add_bos = true, ignore_merges = false;
  if (vocabulary.model == "llama") {
    SetSentencePiece(vocabulary, &root);
  } else {
    DESCANT_ASSIGN_OR_RETURN(const GgufPreTokenizer pre,
                             FindGgufPreTokenizer(vocabulary.pre));
    add_bos = pre.add_bos;
    ignore_merges = pre.ignore_merges;
    if (pre.nfc) root["normalizer"] = {{"type", "NFC"}};
    root["pre_tokenizer"] = PreTokenizerOf(pre);
    root["decoder"] = ByteLevel(true);
  }
  add_bos = vocabulary.add_bos.value_or(add_bos && vocabulary.bos >= 0);
  root["post_processor"] = PostProcessorOf(vocabulary, add_bos);
  root["model"] = ModelOf(vocabulary, ignore_merges);
  return GgufTokenizerJson{root.dump() + "\n", ConfigOf(vocabulary)};
}

}  // namespace descant
