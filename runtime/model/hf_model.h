// A Hugging Face directory: config.json, model.safetensors or its shards with
// model.safetensors.index.json, tokenizer.json, and where they exist
// generation_config.json, tokenizer_config.json, chat_template.jinja.
#ifndef DESCANT_RUNTIME_MODEL_HF_MODEL_H_
#define DESCANT_RUNTIME_MODEL_HF_MODEL_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/model/model.h"

namespace descant {

// As LoadModel, for the architectures of hf_families.h. Every tensor of the
// files must be one that the architecture has (hf_tensors.h).
absl::StatusOr<LoadedModel> LoadHuggingFaceModel(const std::string& directory);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_MODEL_H_
