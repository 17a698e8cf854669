// What Python's str does, on UTF-8. Every text given is valid UTF-8 (a
// template is checked when it is parsed, values when they are made); indices
// count code points. Pure functions; thread-safe.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_TEXT_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace descant::jinja {

bool IsUtf8(absl::string_view text);
// Takes the first character off `*text`, which is not empty.
char32_t TakeCharacter(absl::string_view* text);
void AppendCharacter(char32_t code_point, std::string* out);

// Length in code points.
size_t Length(absl::string_view text);
// Byte offset of the code point `index`, which may be the length.
size_t ByteOffset(absl::string_view text, size_t index);
// The code points one by one, each as text.
std::vector<absl::string_view> Characters(absl::string_view text);

// str.isspace of one character.
bool IsSpace(char32_t code_point);
// str.isprintable of one character.
bool IsPrintable(char32_t code_point);
bool IsCased(char32_t code_point);
bool IsUpper(char32_t code_point);
bool IsLower(char32_t code_point);
bool IsAlpha(char32_t code_point);
bool IsDecimal(char32_t code_point);

// str.strip and its halves; without `characters` it strips white space.
absl::string_view Strip(absl::string_view text,
                        std::optional<absl::string_view> characters, bool left,
                        bool right);

std::string Upper(absl::string_view text);
std::string Lower(absl::string_view text);
std::string Capitalize(absl::string_view text);
std::string Title(absl::string_view text);
std::string SwapCase(absl::string_view text);

// str.split and str.rsplit; `limit` < 0 is none. Without a separator: at runs
// of white space. The separator is not empty.
std::vector<absl::string_view> Split(absl::string_view text,
                                     std::optional<absl::string_view> separator,
                                     int64_t limit);
std::vector<absl::string_view> RightSplit(
    absl::string_view text, std::optional<absl::string_view> separator,
    int64_t limit);
std::vector<absl::string_view> SplitLines(absl::string_view text,
                                          bool keep_ends);

// str.replace; `limit` < 0 is none.
std::string Replace(absl::string_view text, absl::string_view from,
                    absl::string_view to, int64_t limit);
// str.count.
int64_t Count(absl::string_view text, absl::string_view part);

// repr() of a str.
void AppendRepr(absl::string_view text, std::string* out);
// repr() of a float.
std::string FloatRepr(double value);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_TEXT_H_
