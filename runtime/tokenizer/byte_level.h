// The byte-level alphabet of GPT-2: each byte is spelled as one printable
// character, so that a vocabulary can be kept as JSON strings. Printable
// Latin-1 bytes are themselves; the other 68, in order, are U+0100 onwards.
// Thread-safe.
#ifndef DESCANT_RUNTIME_TOKENIZER_BYTE_LEVEL_H_
#define DESCANT_RUNTIME_TOKENIZER_BYTE_LEVEL_H_

#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// The spelling of `bytes`.
std::string ToByteLevel(absl::string_view bytes);

// The bytes that `token` spells; where it has a character outside the
// alphabet, its own bytes (what Hugging Face's ByteLevel decoder does).
std::string FromByteLevel(absl::string_view token);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_BYTE_LEVEL_H_
