#include "runtime/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/string_literal.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
}

bool IsDigit(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c));
}

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(source) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (position_ < source_.size()) {
      DESCANT_RETURN_IF_ERROR(Data());
      if (position_ < source_.size()) DESCANT_RETURN_IF_ERROR(Tag());
    }
    Push(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::string_view rest() const { return source_.substr(position_); }
  bool At(absl::string_view text) const {
    return absl::StartsWith(rest(), text);
  }
  absl::Status Error(absl::string_view what) const {
    return TemplateError(what, line_);
  }

  void Push(Token::Type type, absl::string_view text) {
    tokens_.push_back({type, line_, std::string(text)});
  }

  // Goes on by `bytes`, counting lines.
  void Skip(size_t bytes) {
    const absl::string_view text = rest().substr(0, bytes);
    if (text.empty()) return;
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
    line_starting_ = text.back() == '\n';
    position_ += text.size();
  }

  void SkipSpace() {
    Skip(rest().size() - Strip(rest(), std::nullopt, true, false).size());
  }

  // Text before a tag: `sign` follows its opening. A variable leaves the
  // indentation before it alone.
  absl::string_view Trimmed(absl::string_view text, char sign,
                            bool is_variable) const {
    if (sign == '-') return Strip(text, std::nullopt, false, true);
    if (sign == '+' || is_variable) return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == absl::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return text;
    const bool is_blank =
        Strip(text.substr(line), std::nullopt, true, false).empty();
    return is_blank ? text.substr(0, line) : text;
  }

  // Up to the next tag, or the end.
  absl::Status Data() {
    size_t end = position_;
    while (end < source_.size() &&
           !(source_[end] == '{' && end + 1 < source_.size() &&
             (source_[end + 1] == '%' || source_[end + 1] == '{' ||
              source_[end + 1] == '#'))) {
      ++end;
    }
    absl::string_view text = source_.substr(position_, end - position_);
    if (end < source_.size()) {
      const char sign = end + 2 < source_.size() ? source_[end + 2] : ' ';
      text = Trimmed(text, sign, source_[end + 1] == '{');
    }
    if (!text.empty()) Push(Token::kData, text);
    Skip(end - position_);
    return absl::OkStatus();
  }

  // REQUIRES: at "{%", "{{" or "{#".
  absl::Status Tag() {
    const char type = rest()[1];
    if (type == '#') return Comment();
    if (type == '%' && IsRawTag(rest(), "raw") > 0) return Raw();
    Push(type == '%' ? Token::kBlockBegin : Token::kVariableBegin, "");
    Skip(2);
    if (At("-") || At("+")) Skip(1);
    const absl::string_view close = type == '%' ? "%}" : "}}";
    while (position_ < source_.size()) {
      if (open_.empty() && Close(close)) {
        Push(type == '%' ? Token::kBlockEnd : Token::kVariableEnd, "");
        return absl::OkStatus();
      }
      DESCANT_RETURN_IF_ERROR(InsideTag());
    }
    return Error("a tag is not closed");
  }

  // The end of a tag or comment, and the white space it takes with it.
  bool Close(absl::string_view close) {
    if (At(absl::StrCat("-", close))) {
      Skip(1 + close.size());
      SkipSpace();
      return true;
    }
    const bool is_variable = close == "}}";
    if (!is_variable && At(absl::StrCat("+", close))) {
      Skip(1 + close.size());
      return true;
    }
    if (!At(close)) return false;
    Skip(close.size());
    if (!is_variable && At("\n")) Skip(1);
    return true;
  }

  absl::Status Comment() {
    Skip(2);
    // The sign belongs to the opening; what follows may be the end.
    if (At("-") || At("+")) Skip(1);
    while (position_ < source_.size()) {
      if (Close("#}")) return absl::OkStatus();
      Skip(1);
    }
    return Error("a comment is not closed");
  }

  // Bytes of a {% raw %} or {% endraw %} at the start of `text`; 0: none.
  static size_t IsRawTag(absl::string_view text, absl::string_view name) {
    const size_t size = text.size();
    if (!absl::ConsumePrefix(&text, "{%")) return 0;
    if (absl::StartsWith(text, "-") || absl::StartsWith(text, "+")) {
      text.remove_prefix(1);
    }
    text = Strip(text, std::nullopt, true, false);
    if (!absl::ConsumePrefix(&text, name)) return 0;
    text = Strip(text, std::nullopt, true, false);
    if (absl::ConsumePrefix(&text, "-%}") || absl::ConsumePrefix(&text, "%}") ||
        (name == "endraw" && absl::ConsumePrefix(&text, "+%}"))) {
      return size - text.size();
    }
    return 0;
  }

  absl::Status Raw() {
    const size_t begin = IsRawTag(rest(), "raw");
    const bool trims = rest()[begin - 3] == '-';
    Skip(begin);
    if (trims) SkipSpace();
    for (size_t end = position_; end < source_.size(); ++end) {
      if (source_[end] != '{') continue;
      const size_t tag = IsRawTag(source_.substr(end), "endraw");
      if (tag == 0) continue;
      const absl::string_view text = Trimmed(
          source_.substr(position_, end - position_), source_[end + 2], false);
      if (!text.empty()) Push(Token::kData, text);
      const char sign = source_[end + tag - 3];
      Skip(end + tag - position_);
      if (sign == '-') {
        SkipSpace();
      } else if (sign != '+' && At("\n")) {
        Skip(1);
      }
      return absl::OkStatus();
    }
    return Error("a raw block is not closed");
  }

  absl::Status InsideTag() {
    const size_t before = position_;
    SkipSpace();
    if (position_ != before) return absl::OkStatus();
    const char c = rest()[0];
    if (c == '\'' || c == '"') return String(c);
    if (IsDigit(c)) return Number();
    if (IsNameByte(c)) {
      size_t length = 1;
      while (length < rest().size() && IsNameByte(rest()[length])) ++length;
      Push(Token::kName, rest().substr(0, length));
      Skip(length);
      return absl::OkStatus();
    }
    return OperatorToken();
  }

  absl::Status OperatorToken() {
    static constexpr absl::string_view kOperators[] = {
        "==", "!=", ">=", "<=", "//", "**", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (const absl::string_view symbol : kOperators) {
      if (!At(symbol)) continue;
      const char c = symbol[0];
      if (c == '(' || c == '[' || c == '{') {
        open_.push_back(c == '(' ? ')' : (c == '[' ? ']' : '}'));
      } else if (c == ')' || c == ']' || c == '}') {
        if (open_.empty() || open_.back() != c) {
          return Error(absl::StrCat("unexpected '", symbol, "'"));
        }
        open_.pop_back();
      }
      Push(Token::kOperator, symbol);
      Skip(symbol.size());
      return absl::OkStatus();
    }
    return Error("a character that is no part of an expression");
  }

  // A run of digits, perhaps with single underscores between them.
  static size_t Digits(absl::string_view text) {
    size_t length = 0;
    while (length < text.size() &&
           (IsDigit(text[length]) ||
            (text[length] == '_' && length > 0 && IsDigit(text[length - 1]) &&
             length + 1 < text.size() && IsDigit(text[length + 1])))) {
      ++length;
    }
    return length;
  }

  absl::Status Number() {
    size_t length = Digits(rest());
    bool is_real = false;
    // "x.0.5" has no float in it.
    const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
    if (!after_dot && rest().substr(length, 1) == ".") {
      const size_t fraction = Digits(rest().substr(length + 1));
      if (fraction > 0) {
        is_real = true;
        length += 1 + fraction;
      }
    }
    if (!after_dot && absl::EqualsIgnoreCase(rest().substr(length, 1), "e")) {
      size_t exponent = 1;
      const absl::string_view sign = rest().substr(length + 1, 1);
      if (sign == "+" || sign == "-") ++exponent;
      const size_t digits = Digits(rest().substr(length + exponent));
      if (digits > 0) {
        is_real = true;
        length += exponent + digits;
      }
    }
    if (length < rest().size() && IsNameByte(rest()[length])) {
      return Error("a number that is not served");
    }
    const std::string digits =
        absl::StrReplaceAll(rest().substr(0, length), {{"_", ""}});
    Token token{is_real ? Token::kFloat : Token::kInteger, line_, digits};
    if (is_real) {
      if (!absl::SimpleAtod(digits, &token.real)) {
        return Error("a number that is not served");
      }
    } else if (!absl::SimpleAtoi(digits, &token.integer) ||
               (digits.size() > 1 && digits[0] == '0' && token.integer != 0)) {
      return Error("a number that is not served");
    }
    tokens_.push_back(std::move(token));
    Skip(length);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    size_t end = 1;
    while (end < rest().size() && rest()[end] != quote) {
      end += rest()[end] == '\\' ? 2 : 1;
    }
    if (end >= rest().size()) return Error("a string is not closed");
    const absl::StatusOr<std::string> text =
        Unescape(rest().substr(1, end - 1));
    if (!text.ok()) return Error(text.status().message());
    Push(Token::kString, *text);
    Skip(end + 1);
    return absl::OkStatus();
  }

  const absl::string_view source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_;  // the brackets that are to be closed
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status TemplateError(absl::string_view what, int line) {
  return ReasonedError(
      absl::StatusCode::kFailedPrecondition, "CHAT_TEMPLATE",
      absl::StrCat("the model's chat template is not served: line ", line, ": ",
                   what));
}

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  std::string text =
      absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (absl::EndsWith(text, "\n")) text.pop_back();
  return Lexer(text).Run();
}

}  // namespace descant::jinja
