// A Hugging Face checkpoint's config.json and generation_config.json.
#ifndef DESCANT_RUNTIME_MODEL_HF_CONFIG_H_
#define DESCANT_RUNTIME_MODEL_HF_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/hf_families.h"
#include "runtime/model/model_config.h"

namespace descant {

struct HuggingFaceConfig {
  const HuggingFaceFamily* family = nullptr;  // never null after parsing
  ModelConfig model;
  std::vector<int32_t> eos_token_ids;  // as config.json has them
};

// Accepts the architectures of hf_families.h as Transformers 4 and 5 write
// them. Whatever would change the computation and is not computed here
// (mixtures of experts, other activations and rope types, quantisation) is
// refused by name. Missing keys have Transformers' defaults.
// INVALID_ARGUMENT, one line that starts with `path`.
absl::StatusOr<HuggingFaceConfig> ParseHuggingFaceConfig(
    absl::string_view json, absl::string_view path);

// `eos_token_id` of a generation_config.json: an integer, a list, null or
// missing. Errors as above.
absl::StatusOr<std::vector<int32_t>> ParseEosTokenIds(absl::string_view json,
                                                      absl::string_view path);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_CONFIG_H_
