#include "runtime/tokenizer/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace descant::jinja {
namespace {

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

const utf8proc_uint8_t* Bytes(absl::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Characters that are several in upper case (SpecialCasing.txt, without those
// that only Greek polytonic and Armenian text has).
std::optional<absl::string_view> LongUpper(char32_t c) {
  switch (c) {
    case 0xdf:
      return "SS";
    case 0x149:
      return "\u02bcN";
    case 0x1f0:
      return "J\u030c";
    case 0x1e96:
      return "H\u0331";
    case 0x1e97:
      return "T\u0308";
    case 0xfb00:
      return "FF";
    case 0xfb01:
      return "FI";
    case 0xfb02:
      return "FL";
    default:
      return std::nullopt;
  }
}

void AppendUpper(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 32)
                                        : static_cast<char>(c));
  } else if (const auto several = LongUpper(c); several.has_value()) {
    absl::StrAppend(out, *several);
  } else {
    AppendCharacter(static_cast<char32_t>(
                        utf8proc_toupper(static_cast<utf8proc_int32_t>(c))),
                    out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (c < 0x80) return AppendUpper(c, out);
  if (c == 0xdf) return out->append("Ss"), void();
  AppendCharacter(
      static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))),
      out);
}

bool IsCaseIgnorable(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2019;
  }
}

// A sigma is final after a cased letter and before none.
bool IsFinalSigma(absl::string_view before, absl::string_view after) {
  bool cased_before = false;
  while (!before.empty() && !cased_before) {
    size_t start = before.size() - 1;
    while (start > 0 && IsContinuation(before[start])) --start;
    absl::string_view last = before.substr(start);
    const char32_t c = TakeCharacter(&last);
    cased_before = IsCased(c);
    if (!cased_before && !IsCaseIgnorable(c)) return false;
    before = before.substr(0, start);
  }
  while (!after.empty()) {
    const char32_t c = TakeCharacter(&after);
    if (IsCased(c)) return false;
    if (!IsCaseIgnorable(c)) break;
  }
  return cased_before;
}

// The first character of `rest`, which is the end of `text`, in lower case.
char32_t AppendLower(absl::string_view text, absl::string_view* rest,
                     std::string* out) {
  const size_t start = text.size() - rest->size();
  const char32_t c = TakeCharacter(rest);
  if (c < 0x80) {
    out->push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32)
                                        : static_cast<char>(c));
  } else if (c == 0x130) {
    absl::StrAppend(out, "i\u0307");
  } else if (c == 0x3a3) {
    absl::StrAppend(
        out, IsFinalSigma(text.substr(0, start), *rest) ? "\u03c2" : "\u03c3");
  } else {
    AppendCharacter(static_cast<char32_t>(
                        utf8proc_tolower(static_cast<utf8proc_int32_t>(c))),
                    out);
  }
  return c;
}

bool IsLineEnd(char32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
         c == 0x2028 || c == 0x2029;
}

std::vector<absl::string_view> SplitAtSpace(absl::string_view text,
                                            int64_t limit) {
  std::vector<absl::string_view> parts;
  text = Strip(text, std::nullopt, true, false);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    absl::string_view rest = text;
    size_t word = 0;
    while (!rest.empty()) {
      const size_t before = rest.size();
      if (IsSpace(TakeCharacter(&rest))) break;
      word += before - rest.size();
    }
    parts.push_back(text.substr(0, word));
    text = Strip(text.substr(word), std::nullopt, true, false);
  }
  return parts;
}

}  // namespace

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    if (static_cast<uint8_t>(text[0]) < 0x80) {
      text.remove_prefix(1);
      continue;
    }
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(
        Bytes(text), static_cast<utf8proc_ssize_t>(text.size()), &c);
    if (length <= 0) return false;
    text.remove_prefix(static_cast<size_t>(length));
  }
  return true;
}

char32_t TakeCharacter(absl::string_view* text) {
  const uint8_t first = static_cast<uint8_t>((*text)[0]);
  if (first < 0x80) {
    text->remove_prefix(1);
    return first;
  }
  const size_t length = first >= 0xf0 ? 4 : (first >= 0xe0 ? 3 : 2);
  char32_t c = first & (0xff >> (length + 1));
  size_t i = 1;
  for (; i < length && i < text->size(); ++i) {
    c = (c << 6) | (static_cast<uint8_t>((*text)[i]) & 0x3f);
  }
  text->remove_prefix(i);
  return c;
}

void AppendCharacter(char32_t code_point, std::string* out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  out->append(reinterpret_cast<const char*>(bytes),
              static_cast<size_t>(length));
}

size_t Length(absl::string_view text) {
  size_t count = 0;
  for (const char c : text) count += IsContinuation(c) ? 0 : 1;
  return count;
}

size_t ByteOffset(absl::string_view text, size_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (IsContinuation(text[at])) continue;
    if (index-- == 0) break;
  }
  return at;
}

std::vector<absl::string_view> Characters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  while (!text.empty()) {
    absl::string_view rest = text;
    TakeCharacter(&rest);
    characters.push_back(text.substr(0, text.size() - rest.size()));
    text = rest;
  }
  return characters;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 ||
         c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool IsPrintable(char32_t c) {
  if (c < 0x7f) return c >= 0x20;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool IsUpper(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
bool IsLower(char32_t c) {
  return Category(c) == UTF8PROC_CATEGORY_LL || c == 0xaa || c == 0xba;
}
bool IsCased(char32_t c) {
  return IsUpper(c) || IsLower(c) || Category(c) == UTF8PROC_CATEGORY_LT;
}

bool IsAlpha(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }

absl::string_view Strip(absl::string_view text,
                        std::optional<absl::string_view> characters, bool left,
                        bool right) {
  const auto strips = [&](absl::string_view character) {
    if (characters.has_value()) {
      return absl::StrContains(*characters, character);
    }
    return IsSpace(TakeCharacter(&character));
  };
  while (left && !text.empty()) {
    absl::string_view rest = text;
    TakeCharacter(&rest);
    if (!strips(text.substr(0, text.size() - rest.size()))) break;
    text = rest;
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && IsContinuation(text[start])) --start;
    if (!strips(text.substr(start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string Upper(absl::string_view text) {
  std::string out;
  while (!text.empty()) AppendUpper(TakeCharacter(&text), &out);
  return out;
}

std::string Lower(absl::string_view text) {
  std::string out;
  absl::string_view rest = text;
  while (!rest.empty()) AppendLower(text, &rest, &out);
  return out;
}

std::string Capitalize(absl::string_view text) {
  std::string out;
  absl::string_view rest = text;
  if (!rest.empty()) AppendTitle(TakeCharacter(&rest), &out);
  while (!rest.empty()) AppendLower(text, &rest, &out);
  return out;
}

std::string Title(absl::string_view text) {
  std::string out;
  bool in_word = false;
  absl::string_view rest = text;
  while (!rest.empty()) {
    char32_t c = 0;
    if (in_word) {
      c = AppendLower(text, &rest, &out);
    } else {
      c = TakeCharacter(&rest);
      AppendTitle(c, &out);
    }
    in_word = IsCased(c);
  }
  return out;
}

std::string SwapCase(absl::string_view text) {
  std::string out;
  absl::string_view rest = text;
  while (!rest.empty()) {
    absl::string_view peek = rest;
    const char32_t c = TakeCharacter(&peek);
    if (IsUpper(c)) {
      AppendLower(text, &rest, &out);
    } else {
      rest = peek;
      IsLower(c) ? AppendUpper(c, &out) : AppendCharacter(c, &out);
    }
  }
  return out;
}

std::vector<absl::string_view> Split(absl::string_view text,
                                     std::optional<absl::string_view> separator,
                                     int64_t limit) {
  if (!separator.has_value()) return SplitAtSpace(text, limit);
  std::vector<absl::string_view> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = text.find(*separator);
    if (at == absl::string_view::npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<absl::string_view> RightSplit(
    absl::string_view text, std::optional<absl::string_view> separator,
    int64_t limit) {
  std::vector<absl::string_view> parts;
  if (!separator.has_value()) {
    text = Strip(text, std::nullopt, false, true);
    while (!text.empty()) {
      if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
        parts.push_back(text);
        break;
      }
      size_t word = text.size();
      while (word > 0) {
        size_t start = word - 1;
        while (start > 0 && IsContinuation(text[start])) --start;
        absl::string_view last = text.substr(start, word - start);
        if (IsSpace(TakeCharacter(&last))) break;
        word = start;
      }
      parts.push_back(text.substr(word));
      text = Strip(text.substr(0, word), std::nullopt, false, true);
    }
  } else {
    while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
      const size_t at = text.rfind(*separator);
      if (at == absl::string_view::npos) break;
      parts.push_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
    parts.push_back(text);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<absl::string_view> SplitLines(absl::string_view text,
                                          bool keep_ends) {
  std::vector<absl::string_view> lines;
  absl::string_view rest = text;
  while (!rest.empty()) {
    const size_t before = rest.size();
    const char32_t c = TakeCharacter(&rest);
    if (!IsLineEnd(c)) {
      if (rest.empty()) lines.push_back(text);
      continue;
    }
    if (c == '\r' && absl::StartsWith(rest, "\n")) rest.remove_prefix(1);
    lines.push_back(
        text.substr(0, text.size() - (keep_ends ? rest.size() : before)));
    text = rest;
  }
  return lines;
}

std::string Replace(absl::string_view text, absl::string_view from,
                    absl::string_view to, int64_t limit) {
  std::string out;
  if (from.empty()) {
    const auto insert = [&] {
      if (limit == 0) return;
      out.append(to.data(), to.size());
      if (limit > 0) --limit;
    };
    for (const absl::string_view character : Characters(text)) {
      insert();
      out.append(character.data(), character.size());
    }
    insert();
    return out;
  }
  while (limit != 0) {
    const size_t at = text.find(from);
    if (at == absl::string_view::npos) break;
    absl::StrAppend(&out, text.substr(0, at), to);
    text.remove_prefix(at + from.size());
    --limit;
  }
  out.append(text.data(), text.size());
  return out;
}

int64_t Count(absl::string_view text, absl::string_view part) {
  if (part.empty()) return static_cast<int64_t>(Length(text)) + 1;
  int64_t count = 0;
  size_t at = 0;
  while ((at = text.find(part, at)) != absl::string_view::npos) {
    ++count;
    at += part.size();
  }
  return count;
}

}  // namespace descant::jinja
