// What both loaders share after they found the weights.
#ifndef DESCANT_RUNTIME_MODEL_MODEL_ASSEMBLY_H_
#define DESCANT_RUNTIME_MODEL_MODEL_ASSEMBLY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/file_weights.h"
#include "runtime/model/model.h"

namespace descant {

struct ModelParts {
  std::string path;  // for error messages
  std::string name;
  ModelConfig config;
  std::shared_ptr<const FileWeights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template;
  std::string tool_use_template;
  std::vector<int32_t> eos_token_ids;  // empty: the tokenizer's
};

// The linear modules under PEFT's names, by layer, then kind.
std::vector<BaseModule> AdaptableModules(const ModelConfig& config);

// Lists the adaptable modules, fingerprints the weights, and checks that
// every token id has a row. INVALID_ARGUMENT.
absl::StatusOr<LoadedModel> AssembleModel(ModelParts parts);

// The file's last path component without `.gguf`.
std::string NameFromPath(const std::string& path);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MODEL_ASSEMBLY_H_
