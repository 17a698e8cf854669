// Pre-tokenizer patterns of published tokenizers, as their tokenizer.json
// files (and, for GPT-2, its paper's encoder) have them.
#ifndef DESCANT_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H_
#define DESCANT_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H_

#include "absl/strings/string_view.h"

namespace descant {

inline constexpr absl::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+)"
    R"(|\s+(?!\S)|\s+)";

inline constexpr absl::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

inline constexpr absl::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The `Digits` pre-tokenizer: categories Nd, Nl and No.
inline constexpr absl::string_view kDigitPattern = R"(\p{N})";

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H_
