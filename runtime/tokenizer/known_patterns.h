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

// Mistral's Tekken.
inline constexpr absl::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// GPT-4o's o200k (Phi-4-mini).
inline constexpr absl::string_view kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// DeepSeek's, one after the other.
inline constexpr absl::string_view kNewlinePattern = R"([\r\n])";
inline constexpr absl::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ)"
    R"(-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-)"
    R"(Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ)"
    R"(-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
inline constexpr absl::string_view kDeepSeekPunctuation =
    R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
inline constexpr absl::string_view kDeepSeekTrailing = R"(\s+$)";
inline constexpr absl::string_view kDeepSeekHan = R"([一-龥ࠀ-一가-퟿]+)";
inline constexpr absl::string_view kDeepSeekCoderLetters = R"(\s?\p{L}+)";
inline constexpr absl::string_view kDeepSeekCoderPunctuation = R"(\s?\p{P}+)";
inline constexpr absl::string_view kDeepSeek3Digits = R"(\p{N}{1,3})";
inline constexpr absl::string_view kDeepSeek3Han =
    R"([一-龥぀-ゟ゠-ヿ]+)";
inline constexpr absl::string_view kDeepSeek3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What llama.cpp calls "default", after the GPT-2 pattern and before it.
inline constexpr absl::string_view kDefaultPunctuation =
    R"([\p{P}\$\+<=>\^~\|]+)";
inline constexpr absl::string_view kDigitsPattern = R"(\p{N}+)";
inline constexpr absl::string_view kThreeDigits = R"([0-9][0-9][0-9])";

// The `Digits` pre-tokenizer: categories Nd, Nl and No.
inline constexpr absl::string_view kDigitPattern = R"(\p{N})";

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_KNOWN_PATTERNS_H_
