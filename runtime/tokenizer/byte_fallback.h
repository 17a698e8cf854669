// The tokens that stand for single bytes: "<0x00>" to "<0xFF>" (SentencePiece).
#ifndef DESCANT_RUNTIME_TOKENIZER_BYTE_FALLBACK_H_
#define DESCANT_RUNTIME_TOKENIZER_BYTE_FALLBACK_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// In upper case, as vocabularies have them.
std::string ByteToken(uint8_t byte);

// In either case; none: an ordinary token.
std::optional<uint8_t> ByteOfToken(absl::string_view token);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_BYTE_FALLBACK_H_
