#include "runtime/tokenizer/jinja/string_literal.h"

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

// Of one of \a \b \f \n \r \t \v \\ \' \"; 0: another escape.
char Simple(char escape) {
  static constexpr absl::string_view kEscapes = "abfnrtv\\'\"";
  static constexpr absl::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  const size_t at = kEscapes.find(escape);
  return at == absl::string_view::npos ? '\0' : kMeanings[at];
}

// Takes exactly `digits` hexadecimal digits off `*text`.
absl::StatusOr<char32_t> Hexadecimal(absl::string_view* text, size_t digits) {
  if (text->size() < digits) {
    return absl::InvalidArgumentError("a string has a cut escape");
  }
  char32_t value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const auto c = static_cast<unsigned char>((*text)[i]);
    if (!absl::ascii_isxdigit(c)) {
      return absl::InvalidArgumentError("a string has a cut escape");
    }
    value = value * 16 +
            static_cast<char32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  text->remove_prefix(digits);
  if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
    return absl::InvalidArgumentError(
        "a string has an escape that is no character");
  }
  return value;
}

char32_t Octal(absl::string_view* text) {
  char32_t value = 0;
  for (int i = 0;
       i < 3 && !text->empty() && (*text)[0] >= '0' && (*text)[0] <= '7'; ++i) {
    value = value * 8 + static_cast<char32_t>((*text)[0] - '0');
    text->remove_prefix(1);
  }
  return value;
}

}  // namespace

absl::StatusOr<std::string> Unescape(absl::string_view literal) {
  std::string out;
  while (!literal.empty()) {
    const size_t backslash = literal.find('\\');
    absl::StrAppend(&out, literal.substr(0, backslash));
    if (backslash == absl::string_view::npos) break;
    literal.remove_prefix(backslash + 1);
    if (literal.empty()) {
      return absl::InvalidArgumentError("a string has a cut escape");
    }
    const char escape = literal[0];
    if (escape >= '0' && escape <= '7') {
      AppendCharacter(Octal(&literal), &out);
      continue;
    }
    if (static_cast<unsigned char>(escape) >= 0x80) {
      // jinja2 turns it into an escape first and so keeps the backslash.
      return absl::InvalidArgumentError(
          "a string has a backslash before a character beyond ASCII");
    }
    literal.remove_prefix(1);
    if (const char simple = Simple(escape); simple != '\0') {
      out.push_back(simple);
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      const size_t digits = escape == 'x' ? 2 : (escape == 'u' ? 4 : 8);
      DESCANT_ASSIGN_OR_RETURN(const char32_t c, Hexadecimal(&literal, digits));
      AppendCharacter(c, &out);
    } else if (escape == 'N') {
      return absl::InvalidArgumentError("a string has a \\N escape");
    } else if (escape != '\n') {
      out.push_back('\\');
      out.push_back(escape);
    }
  }
  return out;
}

}  // namespace descant::jinja
