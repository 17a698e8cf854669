#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/unicode_versions.h"

namespace descant {
namespace {

// Backtracking of a pattern that isn't possessive needs stack in the length of
// the text; class repeats (all that known tokenizers use) need none.
constexpr size_t kJitStackStart = 32 << 10;
constexpr size_t kJitStackMax = 8 << 20;

template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

// The stand-in of a character that PCRE2 takes for unassigned; else null.
const StandIn* FindStandIn(char32_t c) {
  // Nearly all text lies below, in the CJK and Hangul blocks, or is emoji.
  if (c < 0x897 || (c > 0x31ef && c < 0xa7cb) || (c > 0xa7dc && c < 0x10000)) {
    return nullptr;
  }
  const auto after = std::upper_bound(
      kStandIns.begin(), kStandIns.end(), c,
      [](char32_t value, const StandIn& s) { return value < s.first; });
  if (after == kStandIns.begin() || c > std::prev(after)->last) return nullptr;
  return &*std::prev(after);
}

// `text` with stand-ins, byte for byte as long; `*copy` holds it if it is
// another text.
absl::string_view WithStandIns(absl::string_view text, std::string* copy) {
  for (size_t position = 0; position < text.size();) {
    if (static_cast<unsigned char>(text[position]) < 0xe0) {
      ++position;
      continue;
    }
    const Utf8Step step = NextUtf8(text.substr(position));
    if (const StandIn* found = FindStandIn(step.code_point); found != nullptr) {
      if (copy->empty()) *copy = std::string(text);
      std::string stand_in;
      AppendUtf8(found->stand_in, &stand_in);
      copy->replace(position, step.length, stand_in);
    }
    position += step.length;
  }
  return copy->empty() ? text : *copy;
}

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct RegexScratch::State {
  std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>> match{
      pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>
      context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>> stack{
      pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)};
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>> code;
  bool literal = false;
};

Regex::Regex(std::unique_ptr<const Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

absl::StatusOr<Regex> Regex::CompilePcre2(absl::string_view pattern,
                                          uint32_t options) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->literal = (options & PCRE2_LITERAL) != 0;
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                 pattern.size(), options, &error, &offset,
                                 nullptr));
  if (code->code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression: ", ErrorText(error), " at offset ",
                     offset, " of \"", pattern, "\""));
  }
  // Where there is no JIT the interpreter runs: slower, same matches.
  pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

absl::StatusOr<Regex> Regex::Compile(absl::string_view oniguruma_pattern) {
  DESCANT_ASSIGN_OR_RETURN(const std::string pattern,
                           TranslatePattern(oniguruma_pattern));
  // Ruby's ^ and $ are those of lines.
  return CompilePcre2(pattern, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                                   PCRE2_NEVER_BACKSLASH_C);
}

absl::StatusOr<Regex> Regex::Literal(absl::string_view text) {
  return CompilePcre2(text, PCRE2_UTF | PCRE2_LITERAL);
}

absl::Status Regex::ForEachMatch(
    absl::string_view text, RegexScratch* scratch,
    absl::FunctionRef<absl::Status(size_t, size_t)> match) const {
  RegexScratch::State& state = *scratch->state_;
  std::string copy;
  if (!code_->literal) text = WithStandIns(text, &copy);
  size_t start = 0;
  size_t last_end = std::string::npos;
  while (start <= text.size()) {
    const int rc = pcre2_match(code_->code.get(),
                               reinterpret_cast<PCRE2_SPTR>(text.data()),
                               text.size(), start, PCRE2_NO_UTF_CHECK,
                               state.match.get(), state.context.get());
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text is too complex for the tokenizer's pattern: ",
                       ErrorText(rc)));
    }
    // Read before `match` runs, which may reuse the scratch. A count of 0
    // means that the pattern has groups, which are of no interest.
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.match.get());
    const size_t begin = bounds[0];
    const size_t end = bounds[1];
    if (begin == end && begin == last_end) {
      if (start == text.size()) break;
      start += NextUtf8(text.substr(start)).length;
      continue;
    }
    DESCANT_RETURN_IF_ERROR(match(begin, end));
    start = last_end = end;
  }
  return absl::OkStatus();
}

}  // namespace descant
