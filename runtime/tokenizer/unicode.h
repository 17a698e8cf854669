// What the tokenizer needs of Unicode: UTF-8, NFC, two character classes.
// Pure functions; thread-safe.
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

bool IsValidUtf8(absl::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

// Canonical composition of valid UTF-8, in O(n log n) whatever the text (the
// library's own reordering is quadratic in runs of combining marks).
std::string NormalizeNfc(absl::string_view text);

// The property White_Space.
bool IsSpace(char32_t code_point);
// \w of UTS 18, annex C: letters, marks, decimal digits, connectors, joiners.
bool IsWord(char32_t code_point);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_UNICODE_H_
