#include "runtime/model/gguf_model.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/gguf_config.h"
#include "runtime/model/gguf_parts.h"
#include "runtime/model/gguf_tensors.h"
#include "runtime/model/gguf_vocabulary.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const GgufParts> files,
                           GgufParts::Open(path));
  ModelParts parts;
  parts.path = path;
  parts.name = NameFromPath(path);
  if (files->files().size() > 1) {  // without "-00001-of-0000N"
    parts.name.resize(parts.name.rfind("-00001-of-"));
  }
  DESCANT_ASSIGN_OR_RETURN(parts.config, ReadGgufConfig(*files));
  DESCANT_ASSIGN_OR_RETURN(GgufVocabulary vocabulary,
                           ReadGgufVocabulary(files->keys(), path));
  parts.eos_token_ids = GgufEndTokens(files->keys(), vocabulary);
  parts.chat_template = vocabulary.chat_template;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::FromGguf(std::move(vocabulary));
  if (!tokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", tokenizer.status().message()));
  }
  parts.tokenizer = *std::move(tokenizer);
  DESCANT_ASSIGN_OR_RETURN(parts.weights,
                           ReadGgufWeights(std::move(files), parts.config));
  return AssembleModel(std::move(parts));
}

}  // namespace descant
