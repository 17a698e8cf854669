// str.__mod__.
#include <cmath>
#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

constexpr int kMaxWidth = 10'000;

struct Conversion {
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool space = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

class Formatter {
 public:
  Formatter(Work* work, absl::string_view format, const Value* value)
      : work_(work), rest_(format), value_(value) {}

  absl::StatusOr<Value> Run() {
    std::string out;
    while (!rest_.empty()) {
      const size_t percent = rest_.find('%');
      absl::StrAppend(&out, rest_.substr(0, percent));
      if (percent == absl::string_view::npos) break;
      rest_.remove_prefix(percent + 1);
      DESCANT_RETURN_IF_ERROR(Convert(&out));
    }
    if (!used_key_ && next_ < ArgumentCount() && !value_->is(Kind::kDict)) {
      return RenderError(
          "not all arguments converted during string formatting");
    }
    return MakeString(std::move(out));
  }

 private:
  size_t ArgumentCount() const {
    return value_->is_list(Flavour::kTuple) ? value_->list().items.size() : 1;
  }

  absl::StatusOr<Value> Next() {
    if (next_ >= ArgumentCount()) {
      return RenderError("not enough arguments for format string");
    }
    const size_t at = next_++;
    return value_->is_list(Flavour::kTuple) ? value_->list().items[at]
                                            : *value_;
  }

  char Take() {
    if (rest_.empty()) return 0;
    const char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }

  absl::StatusOr<int> Number() {
    int number = 0;
    while (!rest_.empty() &&
           absl::ascii_isdigit(static_cast<unsigned char>(rest_[0]))) {
      number = number * 10 + (Take() - '0');
      if (number > kMaxWidth) return NotServed("a format this wide");
    }
    return number;
  }

  absl::StatusOr<Conversion> Read() {
    Conversion conversion;
    for (bool flags = true; flags && !rest_.empty();) {
      switch (rest_[0]) {
        case '-':
          conversion.left = true;
          break;
        case '0':
          conversion.zero = true;
          break;
        case '+':
          conversion.plus = true;
          break;
        case ' ':
          conversion.space = true;
          break;
        default:
          flags = false;
      }
      if (flags) rest_.remove_prefix(1);
    }
    DESCANT_ASSIGN_OR_RETURN(conversion.width, Number());
    if (!rest_.empty() && rest_[0] == '.') {
      rest_.remove_prefix(1);
      DESCANT_ASSIGN_OR_RETURN(conversion.precision, Number());
    }
    conversion.type = Take();
    return conversion;
  }

  absl::Status Convert(std::string* out) {
    std::optional<Value> by_key;
    if (!rest_.empty() && rest_[0] == '(') {
      const size_t end = rest_.find(')');
      if (end == absl::string_view::npos) {
        return RenderError("incomplete format key");
      }
      if (!value_->is(Kind::kDict)) {
        return RenderError("format requires a mapping");
      }
      const Value* found = value_->dict().Find(rest_.substr(1, end - 1));
      if (found == nullptr) return RenderError("KeyError in a format");
      by_key = *found;
      used_key_ = true;
      rest_.remove_prefix(end + 1);
    }
    DESCANT_ASSIGN_OR_RETURN(const Conversion conversion, Read());
    if (conversion.type == '%') {
      *out += '%';
      return absl::OkStatus();
    }
    if (conversion.type == 0) return RenderError("incomplete format");
    if (!by_key.has_value()) {
      DESCANT_ASSIGN_OR_RETURN(by_key, Next());
    }
    return Print(conversion, *by_key, out);
  }

  absl::Status Print(const Conversion& conversion, const Value& value,
                     std::string* out) {
    std::string text;
    bool is_number = false;
    switch (conversion.type) {
      case 's':
        DESCANT_RETURN_IF_ERROR(AppendText(*work_, value, &text));
        break;
      case 'r':
        DESCANT_RETURN_IF_ERROR(AppendRepr(*work_, value, &text));
        break;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
      case 'f':
      case 'F': {
        is_number = true;
        DESCANT_ASSIGN_OR_RETURN(text, NumberText(conversion, value));
        break;
      }
      default:
        return NotServed(
            absl::StrCat("the format %", std::string(1, conversion.type)));
    }
    if (!is_number && conversion.precision >= 0) {
      text.resize(ByteOffset(text, static_cast<size_t>(conversion.precision)));
    }
    const size_t length = Length(text);
    const auto width = static_cast<size_t>(conversion.width);
    const size_t missing = width > length ? width - length : 0;
    DESCANT_RETURN_IF_ERROR(work_->Bytes(text.size() + missing));
    if (conversion.left) {
      absl::StrAppend(out, text, std::string(missing, ' '));
    } else if (is_number && conversion.zero) {
      const bool has_sign =
          absl::string_view("+- ").find(text[0]) != absl::string_view::npos;
      absl::StrAppend(out, text.substr(0, has_sign ? 1 : 0),
                      std::string(missing, '0'), text.substr(has_sign ? 1 : 0));
    } else {
      absl::StrAppend(out, std::string(missing, ' '), text);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> NumberText(const Conversion& conversion,
                                         const Value& value) {
    const std::optional<double> real = value.as_real();
    if (!real.has_value()) {
      if (value.is_undefined()) return UndefinedError(value.undefined());
      return RenderError(absl::StrCat("%", std::string(1, conversion.type),
                                      " format: a real number is required, "
                                      "not ",
                                      TypeName(value)));
    }
    std::string text;
    if (conversion.type == 'f' || conversion.type == 'F') {
      if (!std::isfinite(*real)) return NotServed("a format of infinity");
      const int precision = conversion.precision < 0 ? 6 : conversion.precision;
      text = absl::StrFormat("%.*f", precision, std::abs(*real));
    } else {
      if (conversion.precision >= 0) return NotServed("%d with a precision");
      if (!value.as_integer().has_value() && conversion.type != 'd' &&
          conversion.type != 'i' && conversion.type != 'u') {
        return RenderError("an integer is required");
      }
      if (std::abs(*real) >= 9e18) return NotServed("a format of this number");
      const auto whole = static_cast<uint64_t>(
          std::abs(value.as_integer().value_or(static_cast<int64_t>(*real))));
      text = conversion.type == 'x'   ? absl::StrFormat("%x", whole)
             : conversion.type == 'X' ? absl::StrFormat("%X", whole)
             : conversion.type == 'o' ? absl::StrFormat("%o", whole)
                                      : absl::StrCat(whole);
    }
    if (std::signbit(*real) && (*real != 0 || !value.as_integer())) {
      return absl::StrCat("-", text);
    }
    if (conversion.plus) return absl::StrCat("+", text);
    if (conversion.space) return absl::StrCat(" ", text);
    return text;
  }

  Work* work_;
  absl::string_view rest_;
  const Value* value_;
  size_t next_ = 0;
  bool used_key_ = false;
};

}  // namespace

absl::StatusOr<Value> PercentFormat(Work& work, absl::string_view format,
                                    const Value& value) {
  DESCANT_RETURN_IF_ERROR(work.Bytes(format.size()));
  return Formatter(&work, format, &value).Run();
}

}  // namespace descant::jinja
