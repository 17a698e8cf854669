// Oniguruma's Ruby syntax to PCRE2's: TranslatePattern() of regex.h.
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/regex.h"

namespace descant {
namespace {

// White_Space, as the inside of a class. PCRE2's own \s adds U+180E.
constexpr absl::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

class Translator {
 public:
  explicit Translator(absl::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      if (c == '\\') {
        DESCANT_RETURN_IF_ERROR(Escape(/*in_class=*/false));
      } else if (c == '[') {
        DESCANT_RETURN_IF_ERROR(Class());
      } else if (c == '(') {
        DESCANT_RETURN_IF_ERROR(Group());
      } else if (c == '{') {
        DESCANT_RETURN_IF_ERROR(Interval());
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  absl::string_view rest() const { return pattern_.substr(position_); }

  absl::Status Refuse(absl::string_view construct) const {
    return absl::UnimplementedError(
        absl::StrCat("regular expression \"", pattern_, "\": \"", construct,
                     "\" at offset ", position_, " is not supported"));
  }

  void Copy(size_t count) {
    absl::StrAppend(&out_, rest().substr(0, count));
    position_ += count;
  }
  void Replace(size_t count, absl::string_view with) {
    absl::StrAppend(&out_, with);
    position_ += count;
  }

  // `position_` is at the backslash.
  absl::Status Escape(bool in_class) {
    if (rest().size() < 2) return Refuse("\\");
    const char c = rest()[1];
    switch (c) {
      case 's':
        if (in_class && rest().size() > 3 && rest()[2] == '-' &&
            rest()[3] != ']') {
          return Refuse("\\s-");
        }
        Replace(2, in_class ? std::string(kSpaces)
                            : absl::StrCat("[", kSpaces, "]"));
        return absl::OkStatus();
      case 'S':
        Replace(2, in_class ? std::string("\\S\\x{180e}")
                            : absl::StrCat("[^", kSpaces, "]"));
        return absl::OkStatus();
      case 'v':  // PCRE2's \v is a class
        Replace(2, "\\x{b}");
        return absl::OkStatus();
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 'p':
      case 'P':
        return Property();
      case 'x':
      case 'u':
        return CodePoint();
      default:
        if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
          return Refuse(rest().substr(0, 2));
        }
        Copy(2);
        return absl::OkStatus();
    }
  }

  absl::Status Property() {
    const size_t close = rest().find('}');
    if (rest().size() < 3 || rest()[2] != '{' ||
        close == absl::string_view::npos) {
      return Refuse(rest().substr(0, 2));
    }
    absl::string_view name = rest().substr(3, close - 3);
    bool negative = rest()[1] == 'P';
    if (absl::ConsumePrefix(&name, "^")) negative = !negative;
    // Longer names than "Lu" are scripts, which PCRE2 would extend.
    Replace(close + 1, absl::StrCat(negative ? "\\P{" : "\\p{",
                                    name.size() > 2 ? "sc:" : "", name, "}"));
    return absl::OkStatus();
  }

  // \x{h...}, \uhhhh, \xhh below 0x80 (above it would be a bare byte).
  absl::Status CodePoint() {
    const auto is_hex = [](absl::string_view digits) {
      for (const char c : digits) {
        if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
      }
      return !digits.empty();
    };
    const bool is_u = rest()[1] == 'u';
    if (!is_u && rest().size() > 2 && rest()[2] == '{') {
      const size_t close = rest().find('}');
      if (close == absl::string_view::npos ||
          !is_hex(rest().substr(3, close - 3))) {
        return Refuse("\\x{");
      }
      Copy(close + 1);
      return absl::OkStatus();
    }
    const size_t count = is_u ? 4 : 2;
    const absl::string_view digits = rest().substr(2, count);
    if (digits.size() != count || !is_hex(digits) ||
        (!is_u && digits[0] > '7')) {
      return Refuse(rest().substr(0, 2 + count));
    }
    Replace(2 + count, absl::StrCat("\\x{", digits, "}"));
    return absl::OkStatus();
  }

  absl::Status Class() {
    Copy(absl::StartsWith(rest(), "[^") ? 2 : 1);
    if (absl::StartsWith(rest(), "]")) return Refuse("[]");
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      if (c == ']') {
        Copy(1);
        return absl::OkStatus();
      }
      // Ruby: a set inside a set, and intersection.
      if (c == '[') return Refuse("[ inside [");
      if (absl::StartsWith(rest(), "&&")) return Refuse("&&");
      if (c == '\\') {
        DESCANT_RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else {
        Copy(1);
      }
    }
    return Refuse("[ without ]");
  }

  absl::Status Group() {
    for (const absl::string_view opening :
         {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (absl::StartsWith(rest(), opening)) {
        Copy(opening.size());
        return absl::OkStatus();
      }
    }
    // Elsewhere its scope differs.
    if (position_ == 0 && absl::StartsWith(rest(), "(?i)")) {
      Copy(4);
      return absl::OkStatus();
    }
    if (absl::StartsWith(rest(), "(?") || absl::StartsWith(rest(), "(*")) {
      return Refuse(rest().substr(0, 3));
    }
    Copy(1);
    return absl::OkStatus();
  }

  // {n}, {n,}, {n,m}, {,m}. What is none of them is literal text in both.
  absl::Status Interval() {
    const size_t close = rest().find('}');
    const absl::string_view body =
        close == absl::string_view::npos ? "" : rest().substr(1, close - 1);
    bool is_interval = !body.empty() && body != ",";
    int commas = 0;
    for (const char c : body) {
      if (c == ',') ++commas;
      is_interval &=
          c == ',' || absl::ascii_isdigit(static_cast<unsigned char>(c));
    }
    if (!is_interval || commas > 1) {
      Copy(1);
      return absl::OkStatus();
    }
    const absl::string_view after = rest().substr(close + 1);
    // Not possessive and not lazy in Ruby.
    if (absl::StartsWith(after, "+")) return Refuse("}+");
    if (commas == 0 && absl::StartsWith(after, "?")) return Refuse("}?");
    Replace(close + 1, absl::StrCat("{", body[0] == ',' ? "0" : "", body, "}"));
    return absl::OkStatus();
  }

  absl::string_view pattern_;
  size_t position_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslatePattern(absl::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace descant
