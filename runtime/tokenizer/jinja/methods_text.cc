// Methods of str, and those that str and list share.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

constexpr uint32_t kText = KindBit(Kind::kString);
constexpr uint32_t kList = KindBit(Kind::kList);

Value Text(absl::string_view text) { return MakeString(std::string(text)); }

absl::StatusOr<Value> TextList(Work& work,
                               const std::vector<absl::string_view>& parts) {
  DESCANT_RETURN_IF_ERROR(work.Steps(static_cast<int64_t>(parts.size())));
  std::vector<Value> items;
  for (const absl::string_view part : parts) items.push_back(Text(part));
  return MakeList(Flavour::kList, std::move(items));
}

bool IsAbsent(const Value* argument) {
  return argument == nullptr || argument->is_none();
}

template <std::string (*map)(absl::string_view)>
absl::StatusOr<Value> Mapped(Work& work, const Value& self,
                             const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("method", arguments, {}, 0).status());
  DESCANT_RETURN_IF_ERROR(work.Bytes(self.text().size()));
  return MakeString(map(self.text()));
}

template <bool left, bool right>
absl::StatusOr<Value> Stripped(Work& work, const Value& self,
                               const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("strip", arguments, {"chars"}, 0));
  std::optional<absl::string_view> characters;
  size_t cost = self.text().size();
  if (!IsAbsent(bound[0])) {
    DESCANT_ASSIGN_OR_RETURN(characters, TextOf(bound[0]));
    cost *= 1 + characters->size();
  }
  DESCANT_RETURN_IF_ERROR(work.Bytes(cost));
  return Text(Strip(self.text(), characters, left, right));
}

template <bool from_right>
absl::StatusOr<Value> SplitMethod(Work& work, const Value& self,
                                  const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("split", arguments, {"sep", "maxsplit"}, 0));
  std::optional<absl::string_view> separator;
  if (!IsAbsent(bound[0])) {
    DESCANT_ASSIGN_OR_RETURN(separator, TextOf(bound[0]));
    if (separator->empty()) return RenderError("empty separator");
  }
  DESCANT_ASSIGN_OR_RETURN(const int64_t limit, IntegerOr(bound[1], -1));
  DESCANT_RETURN_IF_ERROR(work.Bytes(2 * self.text().size()));
  return TextList(work, from_right ? RightSplit(self.text(), separator, limit)
                                   : Split(self.text(), separator, limit));
}

absl::StatusOr<Value> SplitLinesMethod(Work& work, const Value& self,
                                       const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("splitlines", arguments, {"keepends"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool keep_ends, TruthOr(bound[0], false));
  DESCANT_RETURN_IF_ERROR(work.Bytes(self.text().size()));
  return TextList(work, SplitLines(self.text(), keep_ends));
}

template <bool from_right>
absl::StatusOr<Value> Partition(Work& work, const Value& self,
                                const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("partition", arguments, {"sep"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view separator, TextOf(bound[0]));
  if (separator.empty()) return RenderError("empty separator");
  const absl::string_view text = self.text();
  DESCANT_RETURN_IF_ERROR(work.Bytes(text.size()));
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  if (at == absl::string_view::npos) {
    return MakeList(Flavour::kTuple,
                    from_right ? std::vector<Value>{Text(""), Text(""), self}
                               : std::vector<Value>{self, Text(""), Text("")});
  }
  return MakeList(Flavour::kTuple, {Text(text.substr(0, at)), Text(separator),
                                    Text(text.substr(at + separator.size()))});
}

// text[start:end] by code points; false: `start` is behind the end.
absl::StatusOr<bool> Window(Work& work, const BoundArguments& bound,
                            absl::string_view* text, int64_t* start) {
  DESCANT_RETURN_IF_ERROR(work.Bytes(text->size()));
  *start = 0;
  if (IsAbsent(bound[1]) && IsAbsent(bound[2])) return true;
  const auto size = static_cast<int64_t>(Length(*text));
  DESCANT_ASSIGN_OR_RETURN(
      int64_t from, IntegerOr(IsAbsent(bound[1]) ? nullptr : bound[1], 0));
  DESCANT_ASSIGN_OR_RETURN(
      int64_t to, IntegerOr(IsAbsent(bound[2]) ? nullptr : bound[2], size));
  if (from < 0) from = std::max<int64_t>(0, from + size);
  if (to < 0) to = std::max<int64_t>(0, to + size);
  to = std::min(to, size);
  if (from > to) return false;
  *start = from;
  const size_t begin = ByteOffset(*text, static_cast<size_t>(from));
  *text =
      text->substr(begin, ByteOffset(*text, static_cast<size_t>(to)) - begin);
  return true;
}

template <bool at_end>
absl::StatusOr<Value> HasAffix(Work& work, const Value& self,
                               const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("startswith", arguments, {"prefix", "start", "end"}, 1));
  absl::string_view text = self.text();
  int64_t start = 0;
  if (!IsAbsent(bound[1]) || !IsAbsent(bound[2])) {
    DESCANT_ASSIGN_OR_RETURN(const bool inside,
                             Window(work, bound, &text, &start));
    if (!inside) return Value(false);
  }
  const auto matches = [&](const Value& affix) -> absl::StatusOr<bool> {
    DESCANT_ASSIGN_OR_RETURN(const absl::string_view wanted, TextOf(&affix));
    DESCANT_RETURN_IF_ERROR(work.Bytes(wanted.size()));
    return at_end ? absl::EndsWith(text, wanted)
                  : absl::StartsWith(text, wanted);
  };
  if (!bound[0]->is_list(Flavour::kTuple)) {
    DESCANT_ASSIGN_OR_RETURN(const bool found, matches(*bound[0]));
    return Value(found);
  }
  for (const Value& affix : bound[0]->list().items) {
    DESCANT_RETURN_IF_ERROR(work.Steps(1));
    DESCANT_ASSIGN_OR_RETURN(const bool found, matches(affix));
    if (found) return Value(true);
  }
  return Value(false);
}

template <bool at_end>
absl::StatusOr<Value> RemoveAffix(Work& work, const Value& self,
                                  const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("removeprefix", arguments, {"prefix"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view affix, TextOf(bound[0]));
  absl::string_view text = self.text();
  DESCANT_RETURN_IF_ERROR(work.Bytes(text.size()));
  if (at_end && absl::EndsWith(text, affix)) text.remove_suffix(affix.size());
  if (!at_end && absl::StartsWith(text, affix))
    text.remove_prefix(affix.size());
  return Text(text);
}

absl::StatusOr<Value> ReplaceMethod(Work& work, const Value& self,
                                    const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("replace", arguments, {"old", "new", "count"}, 2));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view from, TextOf(bound[0]));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view to, TextOf(bound[1]));
  DESCANT_ASSIGN_OR_RETURN(const int64_t limit, IntegerOr(bound[2], -1));
  return ReplaceText(work, self.text(), from, to, limit);
}

absl::StatusOr<Value> JoinMethod(Work& work, const Value& self,
                                 const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("join", arguments, {"iterable"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, *bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      return RenderError(absl::StrCat("sequence item ", i,
                                      ": expected str instance, ",
                                      TypeName(items[i]), " found"));
    }
    DESCANT_RETURN_IF_ERROR(
        work.Bytes(self.text().size() + items[i].text().size()));
    absl::StrAppend(&out, i > 0 ? self.text() : "", items[i].text());
  }
  return MakeString(std::move(out));
}

// str.find and list.index; -1: not there.
absl::StatusOr<int64_t> Position(Work& work, const Value& self,
                                 const BoundArguments& bound, bool from_right) {
  if (self.is(Kind::kList)) {
    if (bound[1] != nullptr) return NotServed("list.index() with a start");
    const std::vector<Value>& items = self.list().items;
    for (size_t i = 0; i < items.size(); ++i) {
      DESCANT_RETURN_IF_ERROR(
          work.Steps(std::min(WeightOf(items[i]), WeightOf(*bound[0]))));
      if (AreEqual(items[i], *bound[0])) return static_cast<int64_t>(i);
    }
    return int64_t{-1};
  }
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view part, TextOf(bound[0]));
  absl::string_view text = self.text();
  int64_t start = 0;
  DESCANT_ASSIGN_OR_RETURN(const bool inside,
                           Window(work, bound, &text, &start));
  const size_t at = from_right ? text.rfind(part) : text.find(part);
  if (!inside || at == absl::string_view::npos) return int64_t{-1};
  return start + static_cast<int64_t>(Length(text.substr(0, at)));
}

template <bool from_right, bool must_be_there>
absl::StatusOr<Value> Find(Work& work, const Value& self,
                           const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("find", arguments, {"sub", "start", "end"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const int64_t at,
                           Position(work, self, bound, from_right));
  if (must_be_there && at < 0) {
    return RenderError(self.is_string() ? "substring not found"
                                        : "the value is not in the list");
  }
  return Value(at);
}

absl::StatusOr<Value> CountMethod(Work& work, const Value& self,
                                  const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("count", arguments, {"sub", "start", "end"}, 1));
  if (self.is_string()) {
    DESCANT_ASSIGN_OR_RETURN(const absl::string_view part, TextOf(bound[0]));
    absl::string_view text = self.text();
    int64_t start = 0;
    DESCANT_ASSIGN_OR_RETURN(const bool inside,
                             Window(work, bound, &text, &start));
    return Value(inside ? Count(text, part) : int64_t{0});
  }
  int64_t count = 0;
  for (const Value& item : self.list().items) {
    DESCANT_RETURN_IF_ERROR(
        work.Steps(std::min(WeightOf(item), WeightOf(*bound[0]))));
    count += AreEqual(item, *bound[0]) ? 1 : 0;
  }
  return Value(count);
}

// Whether there are characters and all of them are such.
template <bool (*is_such)(char32_t)>
absl::StatusOr<Value> AllAre(Work& work, const Value& self,
                             const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("method", arguments, {}, 0).status());
  DESCANT_RETURN_IF_ERROR(work.Bytes(self.text().size()));
  absl::string_view rest = self.text();
  bool all = !rest.empty();
  while (all && !rest.empty()) all = is_such(TakeCharacter(&rest));
  return Value(all);
}

bool IsAlphanumeric(char32_t c) { return IsAlpha(c) || IsDecimal(c); }

template <bool (*is_wanted)(char32_t), bool (*is_unwanted)(char32_t)>
absl::StatusOr<Value> HasCase(Work& work, const Value& self,
                              const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("method", arguments, {}, 0).status());
  DESCANT_RETURN_IF_ERROR(work.Bytes(self.text().size()));
  absl::string_view rest = self.text();
  bool found = false;
  while (!rest.empty()) {
    const char32_t c = TakeCharacter(&rest);
    if (is_unwanted(c)) return Value(false);
    found |= is_wanted(c);
  }
  return Value(found);
}

enum class Side { kLeft, kRight, kCenter };

absl::StatusOr<Value> Pad(Work& work, absl::string_view text, int64_t width,
                          absl::string_view fill, Side side) {
  if (Length(fill) != 1) {
    return RenderError("The fill character must be exactly one character long");
  }
  const int64_t missing = width - static_cast<int64_t>(Length(text));
  if (missing <= 0) return Text(text);
  if (missing > kMaxWorkBytes) return work.Bytes(SIZE_MAX);
  DESCANT_RETURN_IF_ERROR(
      work.Bytes(text.size() + fill.size() * static_cast<size_t>(missing)));
  // As CPython: the odd one goes left where the width is odd.
  const int64_t left = side == Side::kLeft ? missing
                       : side == Side::kRight
                           ? 0
                           : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) absl::StrAppend(&out, fill);
  absl::StrAppend(&out, text);
  for (int64_t i = left; i < missing; ++i) absl::StrAppend(&out, fill);
  return MakeString(std::move(out));
}

template <Side side>
absl::StatusOr<Value> Justify(Work& work, const Value& self,
                              const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("ljust", arguments, {"width", "fillchar"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 0));
  absl::string_view fill = " ";
  if (bound[1] != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(fill, TextOf(bound[1]));
  }
  return Pad(work, self.text(), width, fill, side);
}

absl::StatusOr<Value> ZeroFill(Work& work, const Value& self,
                               const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("zfill", arguments, {"width"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const int64_t width, IntegerOr(bound[0], 0));
  absl::string_view text = self.text();
  absl::string_view sign;
  if (absl::StartsWith(text, "-") || absl::StartsWith(text, "+")) {
    sign = text.substr(0, 1);
    text.remove_prefix(1);
  }
  DESCANT_ASSIGN_OR_RETURN(
      const Value padded,
      Pad(work, text, width - static_cast<int64_t>(sign.size()), "0",
          Side::kLeft));
  return MakeString(absl::StrCat(sign, padded.text()));
}

// str.format with {}, {0} and {name}, plain or as !r and !s.
absl::StatusOr<Value> FormatMethod(Work& work, const Value& self,
                                   const Arguments& arguments) {
  absl::string_view rest = self.text();
  DESCANT_RETURN_IF_ERROR(work.Bytes(rest.size()));
  std::string out;
  size_t next = 0;
  while (!rest.empty()) {
    const size_t brace = rest.find_first_of("{}");
    absl::StrAppend(&out, rest.substr(0, brace));
    if (brace == absl::string_view::npos) break;
    rest.remove_prefix(brace);
    if (absl::StartsWith(rest, "{{") || absl::StartsWith(rest, "}}")) {
      out += rest[0];
      rest.remove_prefix(2);
      continue;
    }
    const size_t end = rest.find('}');
    if (rest[0] == '}' || end == absl::string_view::npos) {
      return RenderError("Single '}' or '{' encountered in format string");
    }
    absl::string_view field = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    const bool is_repr = absl::EndsWith(field, "!r");
    if (is_repr || absl::EndsWith(field, "!s")) field.remove_suffix(2);
    if (field.find_first_of(":!.[{") != absl::string_view::npos) {
      return NotServed("a format specification in str.format()");
    }
    const Value* value = nullptr;
    size_t index = next;
    if (field.empty() || absl::SimpleAtoi(field, &index)) {
      if (field.empty()) ++next;
      if (index < arguments.positional.size()) {
        value = &arguments.positional[index];
      }
    } else {
      for (const auto& [name, named] : arguments.named) {
        if (name->text == field) value = &named;
      }
    }
    if (value == nullptr) {
      return RenderError("a field of str.format() has no argument");
    }
    DESCANT_RETURN_IF_ERROR(is_repr ? AppendRepr(work, *value, &out)
                                    : AppendText(work, *value, &out));
  }
  return MakeString(std::move(out));
}

constexpr Method kMethods[] = {
    {"capitalize", kText, 0, Mapped<Capitalize>},
    {"casefold", kText, 0, nullptr},
    {"center", kText, 0, Justify<Side::kCenter>},
    {"count", kText | kList, 0, CountMethod},
    {"encode", kText, 0, nullptr},
    {"endswith", kText, 0, HasAffix<true>},
    {"expandtabs", kText, 0, nullptr},
    {"find", kText, 0, Find<false, false>},
    {"format", kText, 0, FormatMethod},
    {"format_map", kText, 0, nullptr},
    {"index", kText | kList, 0, Find<false, true>},
    {"isalnum", kText, 0, AllAre<IsAlphanumeric>},
    {"isalpha", kText, 0, AllAre<IsAlpha>},
    {"isascii", kText, 0, nullptr},
    {"isdecimal", kText, 0, AllAre<IsDecimal>},
    {"isdigit", kText, 0, AllAre<IsDecimal>},
    {"isidentifier", kText, 0, nullptr},
    {"islower", kText, 0, HasCase<IsLower, IsUpper>},
    {"isnumeric", kText, 0, AllAre<IsDecimal>},
    {"isprintable", kText, 0, nullptr},
    {"isspace", kText, 0, AllAre<IsSpace>},
    {"istitle", kText, 0, nullptr},
    {"isupper", kText, 0, HasCase<IsUpper, IsLower>},
    {"join", kText, 0, JoinMethod},
    {"ljust", kText, 0, Justify<Side::kRight>},
    {"lower", kText, 0, Mapped<Lower>},
    {"lstrip", kText, 0, Stripped<true, false>},
    {"maketrans", kText, 0, nullptr},
    {"partition", kText, 0, Partition<false>},
    {"removeprefix", kText, 0, RemoveAffix<false>},
    {"removesuffix", kText, 0, RemoveAffix<true>},
    {"replace", kText, 0, ReplaceMethod},
    {"rfind", kText, 0, Find<true, false>},
    {"rindex", kText, 0, Find<true, true>},
    {"rjust", kText, 0, Justify<Side::kLeft>},
    {"rpartition", kText, 0, Partition<true>},
    {"rsplit", kText, 0, SplitMethod<true>},
    {"rstrip", kText, 0, Stripped<false, true>},
    {"split", kText, 0, SplitMethod<false>},
    {"splitlines", kText, 0, SplitLinesMethod},
    {"startswith", kText, 0, HasAffix<false>},
    {"strip", kText, 0, Stripped<true, true>},
    {"swapcase", kText, 0, Mapped<SwapCase>},
    {"title", kText, 0, Mapped<Title>},
    {"translate", kText, 0, nullptr},
    {"upper", kText, 0, Mapped<Upper>},
    {"zfill", kText, 0, ZeroFill},
};

}  // namespace

absl::Span<const Method> TextMethods() { return kMethods; }

absl::StatusOr<Value> ReplaceText(Work& work, absl::string_view text,
                                  absl::string_view from, absl::string_view to,
                                  int64_t limit) {
  DESCANT_RETURN_IF_ERROR(work.Bytes(2 * text.size()));
  size_t count = static_cast<size_t>(Count(text, from));
  if (limit >= 0) count = std::min(count, static_cast<size_t>(limit));
  // Both are far below 2^32.
  DESCANT_RETURN_IF_ERROR(work.Bytes(count * to.size()));
  return MakeString(Replace(text, from, to, limit));
}

absl::StatusOr<Value> CenterText(Work& work, absl::string_view text,
                                 int64_t width, absl::string_view fill) {
  return Pad(work, text, width, fill, Side::kCenter);
}

}  // namespace descant::jinja
