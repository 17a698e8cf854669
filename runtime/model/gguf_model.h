// A model in GGUF: one file, or the parts of a split one.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_
#define DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/model/model.h"

namespace descant {

// As LoadModel. Architectures and keys: gguf_config.h; tensors: gguf_tensors.h;
// the tokenizer: gguf_vocabulary.h.
absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_
