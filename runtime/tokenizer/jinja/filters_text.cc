// Filters from a value to a text or a number.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

// A filter without arguments that maps str(subject).
template <std::string (*map)(absl::string_view)>
absl::StatusOr<Value> MapText(Work& work, const Value& subject,
                              const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("filter", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  return MakeString(map(text));
}

// "hello wor-ld" to "Hello Wor-Ld": unlike str.title, it splits at white
// space and -({[< only.
std::string TitleWords(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t word = 0;
    absl::string_view rest = text;
    const auto is_border = [](absl::string_view at) {
      const char32_t c = TakeCharacter(&at);
      return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' ||
             c == '<';
    };
    const bool border = is_border(text);
    while (!rest.empty() && is_border(rest) == border) TakeCharacter(&rest);
    word = text.size() - rest.size();
    absl::string_view tail = text.substr(0, word);
    TakeCharacter(&tail);
    const size_t first = word - tail.size();
    absl::StrAppend(&out, Upper(text.substr(0, first)),
                    Lower(text.substr(first, word - first)));
    text = rest;
  }
  return out;
}

absl::StatusOr<Value> Trim(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("trim", arguments, {"chars"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  std::optional<absl::string_view> characters;
  if (bound[0] != nullptr && !bound[0]->is_none()) {
    DESCANT_ASSIGN_OR_RETURN(characters, TextOf(bound[0]));
    DESCANT_RETURN_IF_ERROR(
        work.Steps(1 + (text.size() * characters->size()) / 64));
  }
  return MakeString(std::string(Strip(text, characters, true, true)));
}

absl::StatusOr<Value> ReplaceFilter(Work& work, const Value& subject,
                                    const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("replace", arguments, {"old", "new", "count"}, 2));
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  DESCANT_ASSIGN_OR_RETURN(const std::string from, ToText(work, *bound[0]));
  DESCANT_ASSIGN_OR_RETURN(const std::string to, ToText(work, *bound[1]));
  const bool all = bound[2] == nullptr || bound[2]->is_none();
  DESCANT_ASSIGN_OR_RETURN(const int64_t limit,
                           IntegerOr(all ? nullptr : bound[2], -1));
  return ReplaceText(work, text, from, to, limit);
}

absl::StatusOr<Value> StringFilter(Work& work, const Value& subject,
                                   const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("string", arguments, {}, 0).status());
  if (subject.is_string()) return subject;
  DESCANT_ASSIGN_OR_RETURN(std::string text, ToText(work, subject));
  return MakeString(std::move(text));
}

absl::StatusOr<Value> Safe(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("safe", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(std::string text, ToText(work, subject));
  return MakeMarkup(std::move(text));
}

absl::StatusOr<Value> Escape(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("escape", arguments, {}, 0).status());
  if (subject.is_string() && subject.string()->markup) return subject;
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  DESCANT_RETURN_IF_ERROR(work.Bytes(5 * text.size()));
  return MakeMarkup(HtmlEscape(text));
}

absl::StatusOr<Value> ToJsonFilter(Work& work, const Value& subject,
                                   const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("tojson", arguments,
           {"ensure_ascii", "indent", "separators", "sort_keys"}, 0));
  JsonStyle style;
  DESCANT_ASSIGN_OR_RETURN(style.ensure_ascii, TruthOr(bound[0], false));
  DESCANT_ASSIGN_OR_RETURN(style.sort_keys, TruthOr(bound[3], false));
  if (bound[1] != nullptr && !bound[1]->is_none()) {
    if (bound[1]->is_string()) {
      style.indent = bound[1]->text();
    } else {
      DESCANT_ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[1], 0));
      if (width > 1000) return NotServed("an indent this wide");
      style.indent =
          std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
    style.item_separator = ",";
  }
  if (bound[2] != nullptr && !bound[2]->is_none()) {
    DESCANT_ASSIGN_OR_RETURN(const auto separators, Elements(work, *bound[2]));
    if (separators.size() != 2 || !separators[0].is_string() ||
        !separators[1].is_string()) {
      return RenderError("tojson: separators must be two texts");
    }
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
    DESCANT_RETURN_IF_ERROR(work.Bytes(
        (style.item_separator.size() + style.key_separator.size()) *
        static_cast<size_t>(std::min<int64_t>(WeightOf(subject), 1 << 20))));
  }
  DESCANT_ASSIGN_OR_RETURN(std::string text, ToJson(work, subject, style));
  return MakeString(std::move(text));
}

absl::StatusOr<Value> Indent(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("indent", arguments, {"width", "first", "blank"}, 0));
  std::string indentation(4, ' ');
  if (bound[0] != nullptr && bound[0]->is_string()) {
    indentation = bound[0]->text();
  } else {
    DESCANT_ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 4));
    if (width > 1000) return NotServed("an indent this wide");
    indentation.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  DESCANT_ASSIGN_OR_RETURN(const bool first, TruthOr(bound[1], false));
  DESCANT_ASSIGN_OR_RETURN(const bool blank, TruthOr(bound[2], false));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view given, TextOf(&subject));
  const std::string text = absl::StrCat(given, "\n");
  std::string out = first ? indentation : "";
  bool is_first = true;
  for (const absl::string_view line : SplitLines(text, false)) {
    DESCANT_RETURN_IF_ERROR(work.Bytes(line.size() + indentation.size() + 1));
    if (!is_first) {
      absl::StrAppend(&out, "\n", blank || !line.empty() ? indentation : "");
    }
    is_first = false;
    absl::StrAppend(&out, line);
  }
  return MakeString(std::move(out));
}

absl::StatusOr<Value> Truncate(Work& work, const Value& subject,
                               const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("truncate", arguments, {"length", "killwords", "end", "leeway"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const int64_t length, IntegerOr(bound[0], 255));
  DESCANT_ASSIGN_OR_RETURN(const bool kill_words, TruthOr(bound[1], false));
  absl::string_view end = "...";
  if (bound[2] != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(end, TextOf(bound[2]));
  }
  DESCANT_ASSIGN_OR_RETURN(const int64_t leeway, IntegerOr(bound[3], 5));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view text, TextOf(&subject));
  const int64_t kept = length - static_cast<int64_t>(Length(end));
  if (kept < 0) return RenderError("expected length >= the end's");
  if (leeway < 0) return RenderError("expected leeway >= 0");
  DESCANT_RETURN_IF_ERROR(work.Bytes(text.size()));
  if (static_cast<int64_t>(Length(text)) - leeway <= length) return subject;
  absl::string_view head =
      text.substr(0, ByteOffset(text, static_cast<size_t>(kept)));
  if (!kill_words) head = head.substr(0, head.rfind(' '));
  return MakeString(absl::StrCat(head, end));
}

absl::StatusOr<Value> Format(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const std::string format, ToText(work, subject));
  if (arguments.named.empty()) {
    DESCANT_ASSIGN_OR_RETURN(const Value tuple,
                             MakeList(Flavour::kTuple, arguments.positional));
    return PercentFormat(work, format, tuple);
  }
  if (!arguments.positional.empty()) {
    return RenderError(
        "can't handle positional and keyword arguments at the same time");
  }
  Dict dict;
  for (const auto& [name, value] : arguments.named) dict.Set(name, value);
  DESCANT_ASSIGN_OR_RETURN(const Value mapping, MakeDict(std::move(dict)));
  return PercentFormat(work, format, mapping);
}

absl::StatusOr<Value> Center(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("center", arguments, {"width"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 80));
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  return CenterText(work, text, width, " ");
}

// Python's float(): none where it is a ValueError.
std::optional<double> ParseReal(absl::string_view text) {
  text = Strip(text, std::nullopt, true, true);
  for (size_t i = 0; i < text.size(); ++i) {
    const bool inside = i > 0 && i + 1 < text.size() &&
                        absl::ascii_isdigit(text[i - 1]) &&
                        absl::ascii_isdigit(text[i + 1]);
    if (text[i] == '_' && !inside) return std::nullopt;
    if (text[i] == 'x' || text[i] == 'X') return std::nullopt;
  }
  const std::string digits = absl::StrReplaceAll(text, {{"_", ""}});
  double value = 0;
  if (absl::StrContains(digits, "(") || !absl::SimpleAtod(digits, &value)) {
    return std::nullopt;
  }
  return value;
}

// Python's int(text, base); none where it is a ValueError.
absl::StatusOr<std::optional<int64_t>> ParseInteger(absl::string_view text,
                                                    int64_t base) {
  if (base != 10 && base != 16 && base != 8 && base != 2) {
    return NotServed("int() with this base");
  }
  text = Strip(text, std::nullopt, true, true);
  std::string digits;
  size_t at = 0;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    if (text[0] == '-') digits = "-";
    at = 1;
  }
  const absl::string_view prefix = text.substr(at, 2);
  if ((base == 16 && absl::EqualsIgnoreCase(prefix, "0x")) ||
      (base == 8 && absl::EqualsIgnoreCase(prefix, "0o")) ||
      (base == 2 && absl::EqualsIgnoreCase(prefix, "0b"))) {
    at += 2;
  }
  if (at == text.size()) return std::optional<int64_t>();
  for (size_t i = at; i < text.size(); ++i) {
    if (text[i] == '_' && i > at && i + 1 < text.size() && text[i - 1] != '_') {
      continue;
    }
    digits += text[i];
  }
  int64_t value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(),
                                   value, static_cast<int>(base));
  if (end.ptr != digits.data() + digits.size()) return std::optional<int64_t>();
  if (end.ec == std::errc::result_out_of_range) {
    return NotServed("an integer beyond 64 bits");
  }
  if (end.ec != std::errc()) return std::optional<int64_t>();
  return std::optional<int64_t>(value);
}

absl::StatusOr<Value> Truncated(double value) {
  if (std::abs(value) >= 9.2e18) return NotServed("an integer beyond 64 bits");
  return Value(static_cast<int64_t>(value));
}

absl::StatusOr<Value> IntFilter(Work& work, const Value& subject,
                                const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("int", arguments, {"default", "base"}, 0));
  const Value missing = bound[0] == nullptr ? Value(int64_t{0}) : *bound[0];
  if (subject.is_undefined()) return UndefinedError(subject.undefined());
  if (const auto integer = subject.as_integer(); integer.has_value()) {
    return Value(*integer);
  }
  if (subject.is(Kind::kFloat)) {
    if (std::isnan(subject.real())) return missing;
    if (std::isinf(subject.real())) {
      return RenderError("cannot convert float infinity to integer");
    }
    return Truncated(subject.real());
  }
  if (!subject.is_string()) return missing;
  DESCANT_RETURN_IF_ERROR(work.Bytes(subject.text().size()));
  DESCANT_ASSIGN_OR_RETURN(const int64_t base, IntegerOr(bound[1], 10));
  DESCANT_ASSIGN_OR_RETURN(const auto integer,
                           ParseInteger(subject.text(), base));
  if (integer.has_value()) return Value(*integer);
  const std::optional<double> real = ParseReal(subject.text());
  if (!real.has_value() || !std::isfinite(*real)) return missing;
  return Truncated(*real);
}

absl::StatusOr<Value> FloatFilter(Work& work, const Value& subject,
                                  const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("float", arguments, {"default"}, 0));
  if (subject.is_undefined()) return UndefinedError(subject.undefined());
  if (const auto real = subject.as_real(); real.has_value())
    return Value(*real);
  if (subject.is_string()) {
    DESCANT_RETURN_IF_ERROR(work.Bytes(subject.text().size()));
    const std::optional<double> real = ParseReal(subject.text());
    if (real.has_value()) return Value(*real);
  }
  return bound[0] == nullptr ? Value(0.0) : *bound[0];
}

absl::StatusOr<Value> Abs(Work& work, const Value& subject,
                          const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("abs", arguments, {}, 0).status());
  if (subject.is(Kind::kFloat)) return Value(std::abs(subject.real()));
  if (const auto integer = subject.as_integer(); integer.has_value()) {
    return Negate(Value(*integer), *integer < 0);
  }
  return RenderError(
      absl::StrCat("bad operand type for abs(): '", TypeName(subject), "'"));
}

absl::StatusOr<Value> Round(Work& work, const Value& subject,
                            const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("round", arguments, {"precision", "method"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const int64_t precision, IntegerOr(bound[0], 0));
  absl::string_view method = "common";
  if (bound[1] != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(method, TextOf(bound[1]));
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return RenderError("method must be common, ceil or floor");
  }
  const std::optional<double> real = subject.as_real();
  if (!real.has_value()) {
    if (subject.is_undefined()) return UndefinedError(subject.undefined());
    return RenderError(absl::StrCat("type ", TypeName(subject),
                                    " doesn't define __round__ method"));
  }
  if (precision < 0 || precision > 300) {
    return NotServed("round() with this precision");
  }
  if (method == "common") {
    if (subject.as_integer().has_value()) return Value(*subject.as_integer());
    if (!std::isfinite(*real)) return Value(*real);
    // Correctly rounded from the exact value, halves to even: as Python.
    const std::string text =
        absl::StrFormat("%.*f", static_cast<int>(precision), *real);
    return Value(std::strtod(text.c_str(), nullptr));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = *real * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) /
               scale);
}

constexpr Filter kFilters[] = {
    {"abs", Abs},
    {"capitalize", MapText<Capitalize>},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"float", FloatFilter},
    {"format", Format},
    {"indent", Indent},
    {"int", IntFilter},
    {"lower", MapText<Lower>},
    {"replace", ReplaceFilter},
    {"round", Round},
    {"safe", Safe},
    {"string", StringFilter},
    {"title", MapText<TitleWords>},
    {"tojson", ToJsonFilter},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", MapText<Upper>},
};

}  // namespace

absl::Span<const Filter> TextFilters() { return kFilters; }

}  // namespace descant::jinja
