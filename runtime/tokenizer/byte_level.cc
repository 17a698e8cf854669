#include "runtime/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// The highest character of the alphabet is 0xff + 68.
constexpr int kAlphabetEnd = 0x144;

struct Alphabet {
  std::array<char32_t, 256> character;
  std::array<int16_t, kAlphabetEnd> byte;  // -1: not in the alphabet
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet{};
  for (auto& byte : alphabet.byte) byte = -1;
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable =
        (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    const char32_t c = printable ? static_cast<char32_t>(b) : next++;
    alphabet.character[b] = c;
    alphabet.byte[c] = static_cast<int16_t>(b);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string ToByteLevel(absl::string_view bytes) {
  std::string token;
  for (const char c : bytes) {
    AppendUtf8(kAlphabet.character[static_cast<unsigned char>(c)], &token);
  }
  return token;
}

std::string FromByteLevel(absl::string_view token) {
  std::string bytes;
  absl::string_view rest = token;
  while (!rest.empty()) {
    const Utf8Step step = NextUtf8(rest);
    if (step.kind != Utf8Step::kCharacter || step.code_point >= kAlphabetEnd ||
        kAlphabet.byte[step.code_point] < 0) {
      return std::string(token);
    }
    bytes.push_back(static_cast<char>(kAlphabet.byte[step.code_point]));
    rest.remove_prefix(step.length);
  }
  return bytes;
}

}  // namespace descant
