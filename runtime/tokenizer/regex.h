// Pre-tokenizer patterns. tokenizer.json writes them for Oniguruma (Ruby
// syntax, Unicode 16); they run on PCRE2 (Unicode 14) with its JIT. Characters
// that only Oniguruma knows are matched by their general category, and Han.
#ifndef DESCANT_RUNTIME_TOKENIZER_REGEX_H_
#define DESCANT_RUNTIME_TOKENIZER_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// Rewrites an Oniguruma pattern so that PCRE2 (UTF, UCP, multi-line) matches
// the same text: white space is exactly White_Space, scripts are not script
// extensions, \v and \u have Ruby's meaning. A construct in which the two
// differ and which is not rewritten is UNIMPLEMENTED and named.
absl::StatusOr<std::string> TranslatePattern(absl::string_view pattern);

// What matching writes to: one per thread and call of Tokenizer::Encode.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

// A compiled pattern. Immutable; thread-safe.
class Regex {
 public:
  static absl::StatusOr<Regex> Compile(absl::string_view oniguruma_pattern);
  // Matches `text` and nothing else.
  static absl::StatusOr<Regex> Literal(absl::string_view text);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // Calls `match(begin, end)` for each non-overlapping match in valid UTF-8,
  // leftmost first; no empty match right after another match. A failure of
  // `match` ends the search and is returned; a pattern that runs past its
  // match limit is INVALID_ARGUMENT. `match` may use `scratch` itself.
  absl::Status ForEachMatch(
      absl::string_view text, RegexScratch* scratch,
      absl::FunctionRef<absl::Status(size_t begin, size_t end)> match) const;

 private:
  struct Code;
  static absl::StatusOr<Regex> CompilePcre2(absl::string_view pattern,
                                            uint32_t options);
  explicit Regex(std::unique_ptr<const Code> code);

  std::unique_ptr<const Code> code_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_REGEX_H_
