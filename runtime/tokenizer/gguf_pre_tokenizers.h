// How GGUF files name the pre-tokenizers of byte-level vocabularies.
#ifndef DESCANT_RUNTIME_TOKENIZER_GGUF_PRE_TOKENIZERS_H_
#define DESCANT_RUNTIME_TOKENIZER_GGUF_PRE_TOKENIZERS_H_

#include <array>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// The numbers of tokenizer.ggml.token_type (ggml's GGUF specification).
enum GgufTokenType {
  kGgufNormal = 1,
  kGgufUnknown = 2,
  kGgufControl = 3,
  kGgufUserDefined = 4,
};

// What a name in tokenizer.ggml.pre stands for: the pre-tokenizer that the
// published models of that name have in their tokenizer.json.
struct GgufPreTokenizer {
  absl::string_view name;
  std::array<absl::string_view, 6> patterns;  // split by one after the other
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file has no key for it
};

// UNIMPLEMENTED: a name that is not known.
absl::StatusOr<GgufPreTokenizer> FindGgufPreTokenizer(const std::string& name);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_GGUF_PRE_TOKENIZERS_H_
