// What the tokenizer needs of Unicode: UTF-8, normalization forms, character
// classes. Pure functions; thread-safe.
//
// Hugging Face's `tokenizers` draws on crates with data of different Unicode
// versions; each function here follows the one it stands in for, code point by
// code point (unicode_versions.cc, tests/golden/make_unicode_golden.py).
#ifndef DESCANT_RUNTIME_TOKENIZER_UNICODE_H_
#define DESCANT_RUNTIME_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// One step through a byte string by the rules of Unicode 15, section 3.9.
struct Utf8Step {
  enum Kind {
    kCharacter,   // `length` bytes are one character, `code_point`
    kInvalid,     // `length` bytes are a maximal invalid sequence
    kIncomplete,  // the text ends inside what may become a character
  };
  Kind kind;
  size_t length;
  char32_t code_point;
};

// `text` is not empty.
Utf8Step NextUtf8(absl::string_view text);

// Where the last character of valid UTF-8 begins; `text` is not empty.
size_t LastCharacterStart(absl::string_view text);

bool IsValidUtf8(absl::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// A normalization form of valid UTF-8 (Unicode Technical Report 15), in
// O(n log n) whatever the text (the library's own reordering is quadratic in
// runs of combining marks).
std::string NormalizeUnicode(UnicodeForm form, absl::string_view text);
inline std::string NormalizeNfc(absl::string_view text) {
  return NormalizeUnicode(UnicodeForm::kNfc, text);
}

// The full lower-case mapping, without context.
void AppendLowercase(char32_t code_point, std::string* out);

// The property White_Space.
bool IsSpace(char32_t code_point);
// \w of UTS 18, annex C: letters, marks, decimal digits, connectors, joiners.
bool IsWord(char32_t code_point);
// Categories P, and all ASCII punctuation and symbols.
bool IsPunctuation(char32_t code_point);
// Categories N.
bool IsNumeric(char32_t code_point);
// Categories M; Mn only.
bool IsMark(char32_t code_point);
bool IsNonspacingMark(char32_t code_point);
// Categories Cc, Cf and Co but tab, line feed and carriage return.
bool IsBertControl(char32_t code_point);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_UNICODE_H_
