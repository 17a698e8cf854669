#include "runtime/tokenizer/normalizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_level.h"

namespace descant {
namespace {

constexpr size_t kGrowthFactor = 64;
constexpr size_t kGrowthAllowance = 64 << 10;

// Rewrites `text` character by character: `map(c, out)` appends what becomes
// of `c`.
template <typename Map>
void MapCharacters(NormalizedText* text, const Map& map) {
  std::string out;
  out.reserve(text->text.size());
  size_t origin = 0;
  const absl::string_view in = text->text;
  for (size_t position = 0; position < in.size();) {
    const Utf8Step step = NextUtf8(in.substr(position));
    map(step.code_point, &out);
    if (position < text->origin_bytes) origin = out.size();
    position += step.length;
  }
  text->text = std::move(out);
  text->origin_bytes = origin;
}

template <typename Keep>
void Filter(NormalizedText* text, const Keep& keep) {
  MapCharacters(text, [&](char32_t c, std::string* out) {
    if (keep(c)) AppendUtf8(c, out);
  });
}

void Lowercase(NormalizedText* text) {
  MapCharacters(text,
                [](char32_t c, std::string* out) { AppendLowercase(c, out); });
}

void ToForm(UnicodeForm form, NormalizedText* text) {
  // What the first character becomes; composition may take in more.
  size_t origin = 0;
  if (text->origin_bytes > 0) {
    const size_t first = NextUtf8(text->text).length;
    origin =
        NormalizeUnicode(form, absl::string_view(text->text).substr(0, first))
            .size();
  }
  text->text = NormalizeUnicode(form, text->text);
  text->origin_bytes = std::min(origin, text->text.size());
}

void Strip(const StripStep& step, NormalizedText* text) {
  const absl::string_view in = text->text;
  size_t begin = 0;
  while (step.left && begin < in.size()) {
    const Utf8Step next = NextUtf8(in.substr(begin));
    if (!IsSpace(next.code_point)) break;
    begin += next.length;
  }
  size_t end = in.size();
  while (step.right && end > begin) {
    const size_t start = LastCharacterStart(in.substr(0, end));
    if (!IsSpace(NextUtf8(in.substr(start)).code_point)) break;
    end = start;
  }
  text->origin_bytes -= std::min(text->origin_bytes, begin);
  text->text = text->text.substr(begin, end - begin);
}

void Nmt(NormalizedText* text) {
  MapCharacters(text, [](char32_t c, std::string* out) {
    if ((c >= 0x1 && c <= 0x8) || c == 0xb || (c >= 0xe && c <= 0x1f) ||
        c == 0x7f || c == 0x8f || c == 0x9f) {
      return;
    }
    const bool space = c == 0x9 || c == 0xa || c == 0xc || c == 0xd ||
                       c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xfeff || c == 0xfffd;
    AppendUtf8(space ? U' ' : c, out);
  });
}

// The blocks that BERT's own tokenizer calls Chinese.
bool IsChinese(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
         (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
         (c >= 0x2f800 && c <= 0x2fa1f);
}

void Bert(const BertStep& step, NormalizedText* text) {
  if (step.clean_text) {
    MapCharacters(text, [](char32_t c, std::string* out) {
      if (c == 0 || c == 0xfffd || IsBertControl(c)) return;
      AppendUtf8(IsSpace(c) ? U' ' : c, out);
    });
  }
  if (step.handle_chinese_chars) {
    MapCharacters(text, [](char32_t c, std::string* out) {
      const bool chinese = IsChinese(c);
      if (chinese) out->push_back(' ');
      AppendUtf8(c, out);
      if (chinese) out->push_back(' ');
    });
  }
  if (step.strip_accents) {
    ToForm(UnicodeForm::kNfd, text);
    Filter(text, [](char32_t c) { return !IsNonspacingMark(c); });
  }
  if (step.lowercase) Lowercase(text);
}

absl::Status Replace(const ReplaceStep& step, size_t limit,
                     RegexScratch* scratch, NormalizedText* text) {
  const absl::string_view in = text->text;
  if (in.empty()) return absl::OkStatus();
  std::string out;
  size_t last = 0;
  size_t origin = 0;
  // What replaces a match stems from the match's last character.
  const auto copied = [&](size_t in_begin, size_t out_begin) {
    if (in_begin < text->origin_bytes) {
      origin =
          std::min(out.size(), out_begin + (text->origin_bytes - in_begin));
    }
  };
  DESCANT_RETURN_IF_ERROR(
      step.pattern.ForEachMatch(in, scratch, [&](size_t begin, size_t end) {
        const size_t copy_start = out.size();
        absl::StrAppend(&out, in.substr(last, begin - last));
        copied(last, copy_start);
        absl::StrAppend(&out, step.content);
        if (end <= text->origin_bytes && text->origin_bytes > 0) {
          origin = out.size();
        }
        last = end;
        if (out.size() > limit) {
          return absl::InvalidArgumentError(
              "the tokenizer's normalizer makes the text too long");
        }
        return absl::OkStatus();
      }));
  const size_t copy_start = out.size();
  absl::StrAppend(&out, in.substr(last));
  copied(last, copy_start);
  text->text = std::move(out);
  text->origin_bytes = origin;
  return absl::OkStatus();
}

struct Runner {
  NormalizedText* text;
  size_t limit;
  RegexScratch* scratch;

  absl::Status operator()(const UnicodeFormStep& step) const {
    ToForm(step.form, text);
    return absl::OkStatus();
  }
  absl::Status operator()(const PrependStep& step) const {
    if (text->text.empty()) return absl::OkStatus();
    text->text.insert(0, step.text);
    if (text->origin_bytes > 0) text->origin_bytes += step.text.size();
    return absl::OkStatus();
  }
  absl::Status operator()(const ReplaceStep& step) const {
    return Replace(step, limit, scratch, text);
  }
  absl::Status operator()(const LowercaseStep&) const {
    Lowercase(text);
    return absl::OkStatus();
  }
  absl::Status operator()(const StripStep& step) const {
    Strip(step, text);
    return absl::OkStatus();
  }
  absl::Status operator()(const StripAccentsStep&) const {
    Filter(text, [](char32_t c) { return !IsMark(c); });
    return absl::OkStatus();
  }
  absl::Status operator()(const NmtStep&) const {
    Nmt(text);
    return absl::OkStatus();
  }
  absl::Status operator()(const BertStep& step) const {
    Bert(step, text);
    return absl::OkStatus();
  }
  absl::Status operator()(const PrecompiledStep& step) const {
    DESCANT_ASSIGN_OR_RETURN(
        text->text, step.map.Apply(text->text, limit, &text->origin_bytes));
    return absl::OkStatus();
  }
  absl::Status operator()(const ByteLevelSpellingStep&) const {
    text->origin_bytes =
        ToByteLevel(absl::string_view(text->text).substr(0, text->origin_bytes))
            .size();
    text->text = ToByteLevel(text->text);
    return absl::OkStatus();
  }
};

}  // namespace

Normalizer::Normalizer(std::vector<NormalizerStep> steps)
    : steps_(std::move(steps)) {}

absl::Status Normalizer::Run(NormalizedText* text,
                             RegexScratch* scratch) const {
  const size_t limit = text->text.size() * kGrowthFactor + kGrowthAllowance;
  for (const NormalizerStep& step : steps_) {
    DESCANT_RETURN_IF_ERROR(std::visit(Runner{text, limit, scratch}, step));
    if (text->text.size() > limit) {
      return absl::InvalidArgumentError(
          "the tokenizer's normalizer makes the text too long");
    }
  }
  return absl::OkStatus();
}

}  // namespace descant
