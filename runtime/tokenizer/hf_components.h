// The parts of tokenizer.json, each read or refused by name. Private to this
// folder. All: UNIMPLEMENTED naming what is not served exactly,
// INVALID_ARGUMENT for what is malformed.
#ifndef DESCANT_RUNTIME_TOKENIZER_HF_COMPONENTS_H_
#define DESCANT_RUNTIME_TOKENIZER_HF_COMPONENTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/json_view.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/token_model.h"

namespace descant {

absl::Status Unsupported(absl::string_view part, absl::string_view what);

// A component and, where it is a Sequence (whose items are under `items`), the
// components in it, in order, down to eight levels and 64 components.
absl::StatusOr<std::vector<const Json*>> Flatten(const Json& component,
                                                 const char* items);

// Each takes the whole file. A missing model is INVALID_ARGUMENT; the others
// are then ones that do nothing (decoder: HF's, spaces between tokens).
absl::StatusOr<std::vector<NormalizerStep>> ReadNormalizer(const Json& root);
// Leaves ByteLevelStep::spell to the caller, false.
absl::StatusOr<std::vector<PreTokenizerStep>> ReadPreTokenizer(
    const Json& root);
absl::StatusOr<Decoder> ReadDecoder(const Json& root);
// `byte_level`: pieces come as raw bytes, if this model can take them: then it
// is left true.
absl::StatusOr<std::unique_ptr<TokenModel>> ReadModel(const Json& root,
                                                      bool* byte_level);

// The ids put before and after a text.
struct PostProcessing {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};
absl::StatusOr<PostProcessing> ReadPostProcessor(const Json& root);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_HF_COMPONENTS_H_
