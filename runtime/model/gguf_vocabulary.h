// The tokenizer.* metadata of a GGUF file.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_VOCABULARY_H_
#define DESCANT_RUNTIME_MODEL_GGUF_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/formats/gguf.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

// Keys as they stand; Tokenizer::FromGguf gives them their meaning. The chat
// template is tokenizer.chat_template, else the named one called "default".
// INVALID_ARGUMENT, the path first: no tokens, or a key of another type.
absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const GgufIndex& index,
                                                  const std::string& path);

// Tokens that end an answer: the ids of the keys eos, eot and eom, and control
// or user-defined tokens whose text is a published model's end of turn
// ("<|im_end|>", "<end_of_turn>", ...): GGUF has no list of them, as
// generation_config.json has.
std::vector<int32_t> GgufEndTokens(const GgufIndex& index,
                                   const GgufVocabulary& vocabulary);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_VOCABULARY_H_
