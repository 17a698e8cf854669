// Hostile texts, ids, patterns, templates and tokenizer files. The first byte
// picks the target, the rest is its input.
#include <cstddef>
#include <cstdint>

#include "runtime/base/check.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/detokenizer.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/stop_matcher.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

constexpr char kFile[] = R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1,
"ab": 2, "Ġ": 3, "Ã": 4, "©": 5}, "merges": [["a", "b"]]},
"normalizer": {"type": "NFC"}, "added_tokens": [{"id": 6, "content": "<s>",
"special": true, "lstrip": true}, {"id": 7, "content": "<s>a",
"single_word": true, "rstrip": true, "normalized": true}],
"pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}})";

const Tokenizer& SmallTokenizer() {
  static const Tokenizer* const tokenizer = [] {
    auto result = Tokenizer::FromHuggingFace(kFile, "");
    DESCANT_CHECK(result.ok());
    return result->release();
  }();
  return *tokenizer;
}

void FuzzText(absl::string_view text) {
  const auto ids = SmallTokenizer().Encode(text);
  DESCANT_CHECK(ids.ok() == IsValidUtf8(text));
  if (!ids.ok()) return;
  DESCANT_CHECK(IsValidUtf8(SmallTokenizer().Decode(*ids, false)));
  DESCANT_CHECK(IsValidUtf8(NormalizeNfc(text)));
}

void FuzzIds(absl::string_view bytes) {
  std::vector<int32_t> ids;
  std::string text;
  IncrementalDetokenizer detokenizer(&SmallTokenizer(), false);
  for (const char c : bytes) {
    ids.push_back(static_cast<signed char>(c));
    text += detokenizer.Append(ids.back());
    DESCANT_CHECK(IsValidUtf8(text));
  }
  text += detokenizer.Flush();
  DESCANT_CHECK(text == SmallTokenizer().Decode(ids, false));
  Utf8Stream stream;
  std::string lossy;
  stream.Append(bytes, &lossy);
  stream.Flush(&lossy);
  DESCANT_CHECK(IsValidUtf8(lossy));
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
      FuzzText(rest);
      return;
    case 1:
      FuzzIds(rest);
      return;
    case 2:
      FuzzStops(rest);
      return;
    case 3:
      FuzzPattern(rest);
      return;
    case 4:
      (void)ChatTemplate::Parse(rest).ok();
      return;
    default:
      (void)Tokenizer::FromHuggingFace(rest, rest).ok();
      return;
  }
}

}  // namespace descant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  descant::FuzzTokenizer({reinterpret_cast<const char*>(data), size});
  return 0;
}
