// Hostile texts, ids, patterns, templates and tokenizer files. The first byte
// picks the target, for texts and ids the second one of seven tokenizers; the
// rest is its input.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/detokenizer.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/stop_matcher.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// One of each model, with all normalizers, pre-tokenizers and decoders spread
// over them.
constexpr const char* kFiles[] = {
    R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1,
"ab": 2, "Ġ": 3, "Ã": 4, "©": 5}, "merges": [["a", "b"]]},
"normalizer": {"type": "NFC"}, "added_tokens": [{"id": 6, "content": "<s>",
"special": true, "lstrip": true}, {"id": 7, "content": "<s>a",
"single_word": true, "rstrip": true, "normalized": true}],
"pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}})",
    R"({"model": {"type": "BPE", "vocab": {"<unk>": 0, "▁": 1, "a": 2, "▁a": 3,
"<0x41>": 4, "<0xE4>": 5, "<0xBD>": 6, "<0xA0>": 7}, "byte_fallback": true,
"merges": ["▁ a"], "unk_token": "<unk>", "fuse_unk": true},
"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend",
"prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "},
"content": "▁"}]}, "decoder": {"type": "Sequence", "decoders": [
{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ",
"start": 1, "stop": 2}]}, "post_processor": {"type": "BertProcessing",
"cls": ["<unk>", 0], "sep": ["a", 2]}})",
    R"({"model": {"type": "WordPiece", "unk_token": "[UNK]",
"continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
"vocab": {"[UNK]": 0, "a": 1, "##b": 2, "##bc": 3, "é": 4, ".": 5, "'": 6}},
"normalizer": {"type": "BertNormalizer", "lowercase": true},
"pre_tokenizer": {"type": "BertPreTokenizer"},
"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}})",
    R"({"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
"vocab": [["<unk>", 0], ["▁", -1], ["▁a", -2.5], ["a", -2], ["ab", -3]]},
"normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled",
"precompiled_charsmap": "DAAAAAAAAAAAAAAAYQEAAGI="}, {"type": "Nmt"},
{"type": "Strip", "strip_left": true, "strip_right": true},
{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
"pre_tokenizer": {"type": "Metaspace", "replacement": "▁",
"prepend_scheme": "first", "split": true},
"decoder": {"type": "Metaspace", "replacement": "▁",
"prepend_scheme": "first"}})",
    R"({"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0,
"a": 1, "b": 2, "1": 3}}, "normalizer": {"type": "Sequence", "normalizers": [
{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]},
"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
{"type": "Whitespace"}, {"type": "Digits", "individual_digits": false},
{"type": "Punctuation", "behavior": "MergedWithNext"}]}})",
    R"({"model": {"type": "BPE", "unk_token": "a", "end_of_word_suffix": "</w>",
"continuing_subword_prefix": "#", "vocab": {"a": 0, "a</w>": 1, "#b": 2,
"#b</w>": 3, "ab</w>": 4}, "merges": ["a #b</w>"]},
"normalizer": {"type": "NFKC"}, "pre_tokenizer": {"type": "Sequence",
"pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{L}+"},
"behavior": "MergedWithPrevious", "invert": true},
{"type": "CharDelimiterSplit", "delimiter": "-"}]},
"decoder": {"type": "BPEDecoder", "suffix": "</w>"}})",
    R"({"model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1, "▁": 2, "Ã": 3},
"merges": [], "ignore_merges": true}, "normalizer": {"type": "NFD"},
"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁",
"prepend_scheme": "always", "split": false}, {"type": "ByteLevel"},
{"type": "Split", "pattern": {"String": "Ã"}, "behavior": "Contiguous"}]},
"decoder": {"type": "Sequence", "decoders": [{"type": "Metaspace",
"replacement": "▁", "prepend_scheme": "always"}, {"type": "ByteLevel"},
{"type": "Strip", "content": " ", "start": 0, "stop": 1}]}})"};
constexpr size_t kFileCount = sizeof(kFiles) / sizeof(kFiles[0]);

const Tokenizer& SmallTokenizer(size_t index) {
  static const auto* const tokenizers = [] {
    auto* all = new std::vector<std::unique_ptr<Tokenizer>>();
    for (const char* file : kFiles) {
      auto result = Tokenizer::FromHuggingFace(file, "");
      DESCANT_CHECK(result.ok());
      all->push_back(*std::move(result));
    }
    return all;
  }();
  return *(*tokenizers)[index % kFileCount];
}

void CheckDecode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                 bool skip_special) {
  IncrementalDetokenizer detokenizer(&tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    text += detokenizer.Append(id);
    DESCANT_CHECK(IsValidUtf8(text));
  }
  text += detokenizer.Flush();
  DESCANT_CHECK(text == tokenizer.Decode(ids, skip_special));
}

void FuzzText(const Tokenizer& tokenizer, absl::string_view text) {
  const auto ids = tokenizer.Encode(text);
  DESCANT_CHECK(ids.ok() == IsValidUtf8(text));
  if (!ids.ok()) return;
  for (const int32_t id : *ids) {
    DESCANT_CHECK(id >= 0 && id < tokenizer.vocab_size());
  }
  CheckDecode(tokenizer, *ids, false);
  for (const UnicodeForm form : {UnicodeForm::kNfc, UnicodeForm::kNfd,
                                 UnicodeForm::kNfkc, UnicodeForm::kNfkd}) {
    const std::string once = NormalizeUnicode(form, text);
    DESCANT_CHECK(IsValidUtf8(once));
  }
}

void FuzzIds(const Tokenizer& tokenizer, absl::string_view bytes) {
  std::vector<int32_t> ids;
  for (const char c : bytes) ids.push_back(static_cast<signed char>(c));
  CheckDecode(tokenizer, ids, false);
  CheckDecode(tokenizer, ids, true);
  Utf8Stream stream;
  std::string lossy;
  stream.Append(bytes, &lossy);
  stream.Flush(&lossy);
  DESCANT_CHECK(IsValidUtf8(lossy));
}

// A file of any kind, and a text that has something of everything.
void FuzzFile(absl::string_view file) {
  const auto tokenizer = Tokenizer::FromHuggingFace(file, file);
  if (!tokenizer.ok()) return;
  const absl::string_view text =
      " \xe2\x96\x81"
      "abc  <s>1.2 \xc3\xa9"
      "e\xcc\x81\n\xf0\x9f\x98\x80 The end";
  const auto ids = (*tokenizer)->Encode(text);
  std::vector<int32_t> all;
  for (int32_t id = -1; id < 40; ++id) all.push_back(id);
  if (ids.ok()) all.insert(all.end(), ids->begin(), ids->end());
  CheckDecode(**tokenizer, all, false);
  CheckDecode(**tokenizer, all, true);
}

void FuzzStops(absl::string_view bytes) {
  const size_t cut = bytes.empty() ? 0 : bytes[0] & 7;
  StopMatcher matcher({std::string(bytes.substr(0, cut)), "ab"});
  std::string emitted;
  for (const char c : bytes) emitted += matcher.Append({&c, 1});
  emitted += matcher.Flush();
  DESCANT_CHECK(emitted == bytes.substr(0, emitted.size()));
  DESCANT_CHECK(matcher.matched() || emitted.size() == bytes.size());
}

void FuzzPattern(absl::string_view bytes) {
  const auto regex = Regex::Compile(bytes.substr(0, 200));
  if (!regex.ok()) return;
  RegexScratch scratch;
  size_t last = 0;
  const absl::Status status = regex->ForEachMatch(
      "the quick (brown) fox's 42", &scratch, [&](size_t begin, size_t end) {
        DESCANT_CHECK(last <= begin && begin <= end);
        last = end;
        return absl::OkStatus();
      });
  DESCANT_CHECK(status.ok() ||
                status.code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace

void FuzzTokenizer(absl::string_view input) {
  if (input.empty()) return;
  const absl::string_view rest = input.substr(1);
  switch (static_cast<unsigned char>(input[0]) % 6) {
    case 0:
    case 1: {
      if (rest.empty()) return;
      const Tokenizer& tokenizer =
          SmallTokenizer(static_cast<unsigned char>(rest[0]));
      if (input[0] % 2 == 0) {
        FuzzText(tokenizer, rest.substr(1));
      } else {
        FuzzIds(tokenizer, rest.substr(1));
      }
      return;
    }
    case 2:
      FuzzStops(rest);
      return;
    case 3:
      FuzzPattern(rest);
      return;
    case 4:
      (void)ChatTemplate::Parse({std::string(rest), "", {}}).ok();
      return;
    default:
      FuzzFile(rest);
      return;
  }
}

}  // namespace descant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  descant::FuzzTokenizer({reinterpret_cast<const char*>(data), size});
  return 0;
}
