// What happens to text before it is cut into pieces.
#ifndef DESCANT_RUNTIME_TOKENIZER_NORMALIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_NORMALIZER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/precompiled_map.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {

// Text on its way through the steps.
struct NormalizedText {
  std::string text;
  // How many bytes at the front stem from the first character of the whole
  // input: 0 when this isn't its beginning, or when that was stripped.
  // Metaspace with `prepend_scheme` first asks for it.
  size_t origin_bytes = 0;
};

// The steps, named and behaving as in Hugging Face `tokenizers`.
struct UnicodeFormStep {  // NFC, NFD, NFKC, NFKD
  UnicodeForm form;
};
struct PrependStep {  // not to empty text
  std::string text;
};
struct ReplaceStep {
  Regex pattern;  // Regex::Literal for a string
  std::string content;
};
struct LowercaseStep {};
struct StripStep {
  bool left;
  bool right;
};
struct StripAccentsStep {};
struct NmtStep {};
struct BertStep {
  bool clean_text;
  bool handle_chinese_chars;
  bool strip_accents;
  bool lowercase;
};
struct PrecompiledStep {
  PrecompiledMap map;
};
struct ByteLevelSpellingStep {};

using NormalizerStep =
    std::variant<UnicodeFormStep, PrependStep, ReplaceStep, LowercaseStep,
                 StripStep, StripAccentsStep, NmtStep, BertStep,
                 PrecompiledStep, ByteLevelSpellingStep>;

// Steps in order. Immutable; thread-safe.
class Normalizer {
 public:
  explicit Normalizer(std::vector<NormalizerStep> steps = {});

  bool empty() const { return steps_.empty(); }

  // `text->text` is valid UTF-8 and stays so. INVALID_ARGUMENT: a pattern ran
  // past its match limit, or the text grew to more than 64 times its size plus
  // 64 KiB (which only a hostile file does).
  absl::Status Run(NormalizedText* text, RegexScratch* scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_NORMALIZER_H_
