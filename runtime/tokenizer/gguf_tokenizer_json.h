// A GGUF file's vocabulary as tokenizer.json.
#ifndef DESCANT_RUNTIME_TOKENIZER_GGUF_TOKENIZER_JSON_H_
#define DESCANT_RUNTIME_TOKENIZER_GGUF_TOKENIZER_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

struct GgufTokenizerJson {
  std::string tokenizer;  // tokenizer.json
  std::string config;     // tokenizer_config.json
};

// What Hugging Face `tokenizers` turns into the same ids as
// Tokenizer::FromGguf, with the components that published models have.
// UNIMPLEMENTED, INVALID_ARGUMENT: as FromGguf, and a token that is not UTF-8.
absl::StatusOr<GgufTokenizerJson> TokenizerJsonOfGguf(
    const GgufVocabulary& vocabulary);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_GGUF_TOKENIZER_JSON_H_
