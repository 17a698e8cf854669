#include "runtime/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include "absl/strings/ascii.h"
#include "runtime/tokenizer/unicode_versions.h"

namespace descant {
namespace {

struct LeadByte {
  int length;  // 0: not a lead byte
  unsigned char second_min;
  unsigned char second_max;
};

LeadByte ClassifyLead(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};  // no surrogates
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x80;
  });
}

int CombiningClass(utf8proc_int32_t c) {
  if (c < 0x300) return 0;
  const int combining_class = utf8proc_get_property(c)->combining_class;
  if (combining_class == 0) return 0;
  return Contains(kNotOrdered, static_cast<char32_t>(c)) ? 0 : combining_class;
}

// Canonical ordering: stable by combining class within each run of
// non-starters.
void ReorderMarks(std::vector<utf8proc_int32_t>* code_points) {
  auto begin = code_points->begin();
  while (begin != code_points->end()) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, code_points->end(),
                     [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    begin = end;
  }
}

// Neither composes nor lets its neighbours compose. U+11930 is the second half
// of U+11938, which is newer than the oracle's data.
bool IsBarrier(utf8proc_int32_t c) {
  return c == 0x11930 || Contains(kNotOrdered, static_cast<char32_t>(c));
}

void Decompose(utf8proc_int32_t c, bool compatible,
               std::vector<utf8proc_int32_t>* out) {
  if (c >= 0x32ff && Contains(kNotDecomposed, static_cast<char32_t>(c))) {
    out->push_back(c);
    return;
  }
  // The longest decomposition of one character has 18.
  std::array<utf8proc_int32_t, 32> decomposed;
  int boundary = UTF8PROC_BOUNDCLASS_START;
  const int options =
      UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  const auto count = utf8proc_decompose_char(
      c, decomposed.data(), decomposed.size(),
      static_cast<utf8proc_option_t>(options), &boundary);
  out->insert(out->end(), decomposed.begin(),
              decomposed.begin() + std::max<utf8proc_ssize_t>(count, 0));
}

// Composes code_points[begin, end) and appends the result.
void ComposeTo(std::vector<utf8proc_int32_t>* code_points, size_t begin,
               size_t end, std::string* out) {
  const auto length = utf8proc_normalize_utf32(
      code_points->data() + begin, static_cast<utf8proc_ssize_t>(end - begin),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    AppendUtf8(static_cast<char32_t>((*code_points)[begin + i]), out);
  }
}

bool InCategories(char32_t c,
                  std::initializer_list<utf8proc_category_t> categories) {
  uint32_t set = 0;
  for (const utf8proc_category_t category : categories) set |= 1u << category;
  return (set >> utf8proc_category(static_cast<utf8proc_int32_t>(c)) & 1) == 1;
}

}  // namespace

Utf8Step NextUtf8(absl::string_view text) {
  const auto byte = [&](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const LeadByte lead = ClassifyLead(byte(0));
  if (lead.length == 0) return {Utf8Step::kInvalid, 1, 0};
  if (lead.length == 1) return {Utf8Step::kCharacter, 1, byte(0)};
  char32_t code_point = byte(0) & (0xff >> (lead.length + 1));
  for (size_t i = 1; i < static_cast<size_t>(lead.length); ++i) {
    if (i == text.size()) return {Utf8Step::kIncomplete, i, 0};
    const unsigned char min = i == 1 ? lead.second_min : 0x80;
    const unsigned char max = i == 1 ? lead.second_max : 0xbf;
    if (byte(i) < min || byte(i) > max) return {Utf8Step::kInvalid, i, 0};
    code_point = (code_point << 6) | (byte(i) & 0x3f);
  }
  return {Utf8Step::kCharacter, static_cast<size_t>(lead.length), code_point};
}

size_t LastCharacterStart(absl::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 &&
         (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) {
    --start;
  }
  return start;
}

bool IsValidUtf8(absl::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.kind != Utf8Step::kCharacter) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const auto length = utf8proc_encode_char(
      static_cast<utf8proc_int32_t>(code_point), bytes.data());
  out->append(reinterpret_cast<const char*>(bytes.data()),
              static_cast<size_t>(length));
}

std::string NormalizeUnicode(UnicodeForm form, absl::string_view text) {
  if (IsAscii(text)) return std::string(text);
  const bool compatible =
      form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  std::vector<utf8proc_int32_t> code_points;
  code_points.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    text.remove_prefix(step.length);
    Decompose(static_cast<utf8proc_int32_t>(step.code_point), compatible,
              &code_points);
  }
  ReorderMarks(&code_points);
  std::string out;
  out.reserve(code_points.size() * 2);
  if (form == UnicodeForm::kNfd || form == UnicodeForm::kNfkd) {
    for (const utf8proc_int32_t c : code_points) {
      AppendUtf8(static_cast<char32_t>(c), &out);
    }
    return out;
  }
  size_t begin = 0;
  for (size_t i = 0; i < code_points.size(); ++i) {
    if (code_points[i] < 0x300 || !IsBarrier(code_points[i])) continue;
    ComposeTo(&code_points, begin, i, &out);
    AppendUtf8(static_cast<char32_t>(code_points[i]), &out);
    begin = i + 1;
  }
  ComposeTo(&code_points, begin, code_points.size(), &out);
  return out;
}

void AppendLowercase(char32_t c, std::string* out) {
  if (c == 0x130) {  // the only one that becomes two characters
    out->append("i\xcc\x87");
    return;
  }
  for (const LowercaseRange& range : kNewLowercase) {
    if (c >= range.first && c <= range.last) {
      return AppendUtf8(range.lower + (c - range.first), out);
    }
  }
  AppendUtf8(
      static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))),
      out);
}

bool IsSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsWord(char32_t c) {
  return kWordDifference.Apply(
      c,
      InCategories(
          c, {UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LT,
              UTF8PROC_CATEGORY_LM, UTF8PROC_CATEGORY_LO, UTF8PROC_CATEGORY_MN,
              UTF8PROC_CATEGORY_MC, UTF8PROC_CATEGORY_ME, UTF8PROC_CATEGORY_ND,
              UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_PC}));
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) return absl::ascii_ispunct(static_cast<unsigned char>(c));
  return kPunctuationDifference.Apply(
      c, InCategories(c, {UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PD,
                          UTF8PROC_CATEGORY_PS, UTF8PROC_CATEGORY_PE,
                          UTF8PROC_CATEGORY_PI, UTF8PROC_CATEGORY_PF,
                          UTF8PROC_CATEGORY_PO}));
}

bool IsNumeric(char32_t c) {
  return kNumericDifference.Apply(
      c, InCategories(c, {UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NL,
                          UTF8PROC_CATEGORY_NO}));
}

bool IsMark(char32_t c) {
  return kMarkDifference.Apply(
      c, InCategories(c, {UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_MC,
                          UTF8PROC_CATEGORY_ME}));
}

bool IsNonspacingMark(char32_t c) {
  return kNonspacingMarkDifference.Apply(
      c, InCategories(c, {UTF8PROC_CATEGORY_MN}));
}

bool IsBertControl(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return kBertControlDifference.Apply(
      c, InCategories(c, {UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CF,
                          UTF8PROC_CATEGORY_CO}));
}

}  // namespace descant
