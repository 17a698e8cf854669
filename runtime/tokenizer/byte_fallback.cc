#include "runtime/tokenizer/byte_fallback.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

namespace descant {

std::string ByteToken(uint8_t byte) {
  return absl::StrFormat("<0x%02X>", byte);
}

std::optional<uint8_t> ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") ||
      token.back() != '>') {
    return std::nullopt;
  }
  int value = 0;
  for (size_t i = 3; i < 5; ++i) {
    // Rust's from_str_radix, which the oracle uses, takes a sign.
    if (i == 3 && token[3] == '+') continue;
    const auto c = static_cast<unsigned char>(token[i]);
    if (!absl::ascii_isxdigit(c)) return std::nullopt;
    const int digit =
        absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

}  // namespace descant
