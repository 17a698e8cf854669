// repr() of texts and floats.
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {

void AppendRepr(absl::string_view text, std::string* out) {
  const char quote =
      absl::StrContains(text, '\'') && !absl::StrContains(text, '"') ? '"'
                                                                     : '\'';
  out->push_back(quote);
  while (!text.empty()) {
    const char32_t c = TakeCharacter(&text);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '\r') {
      out->append("\\r");
    } else if (c == '\t') {
      out->append("\\t");
    } else if (IsPrintable(c)) {
      AppendCharacter(c, out);
    } else if (c < 0x100) {
      absl::StrAppendFormat(out, "\\x%02x", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      absl::StrAppendFormat(out, "\\u%04x", static_cast<uint32_t>(c));
    } else {
      absl::StrAppendFormat(out, "\\U%08x", static_cast<uint32_t>(c));
    }
  }
  out->push_back(quote);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 std::chars_format::scientific);
  // d[.ddd]e[+-]dd
  absl::string_view all(buffer, static_cast<size_t>(end.ptr - buffer));
  std::string out;
  if (all[0] == '-') {
    out = "-";
    all.remove_prefix(1);
  }
  const size_t e = all.find('e');
  std::string digits(1, all[0]);
  if (e > 2) absl::StrAppend(&digits, all.substr(2, e - 2));
  int exponent = 0;
  const char* sign = all.data() + e + 1;
  std::from_chars(*sign == '+' ? sign + 1 : sign, all.data() + all.size(),
                  exponent);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    absl::StrAppend(&out, digits.substr(0, 1));
    if (count > 1) absl::StrAppend(&out, ".", digits.substr(1));
    absl::StrAppendFormat(&out, "e%c%02d", exponent < 0 ? '-' : '+',
                          std::abs(exponent));
  } else if (exponent < 0) {
    absl::StrAppend(&out, "0.",
                    std::string(static_cast<size_t>(-exponent - 1), '0'),
                    digits);
  } else {
    if (count <= exponent) {
      digits.append(static_cast<size_t>(exponent + 1 - count), '0');
    }
    const size_t point = static_cast<size_t>(exponent) + 1;
    absl::StrAppend(&out, digits.substr(0, point), ".",
                    digits.size() > point ? digits.substr(point) : "0");
  }
  return out;
}

}  // namespace descant::jinja
