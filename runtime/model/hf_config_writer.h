// A config.json for a model that has none.
#ifndef DESCANT_RUNTIME_MODEL_HF_CONFIG_WRITER_H_
#define DESCANT_RUNTIME_MODEL_HF_CONFIG_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/hf_families.h"
#include "runtime/model/model_config.h"

namespace descant {

// Special tokens as config.json names them.
struct ConfigTokens {
  int32_t bos = -1;  // -1: none
  int32_t pad = -1;
  std::vector<int32_t> eos;
};

// The family whose architecture computes what `config`, read from a GGUF file,
// says. UNIMPLEMENTED: there is none.
absl::StatusOr<const HuggingFaceFamily*> FamilyOfGguf(
    const ModelConfig& config);

// What ParseHuggingFaceConfig, and Transformers 4 and 5, read as `config`.
// `dtype`: Torch's name of the weights' type. UNIMPLEMENTED: the family has no
// key for something; the message names it.
absl::StatusOr<std::string> WriteHuggingFaceConfig(
    const HuggingFaceFamily& family, const ModelConfig& config,
    const ConfigTokens& tokens, absl::string_view dtype);

// generation_config.json.
std::string WriteGenerationConfig(const ConfigTokens& tokens);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_CONFIG_WRITER_H_
