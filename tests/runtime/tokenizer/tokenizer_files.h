// Reads what the tokenizer tests compare with.
#ifndef DESCANT_TESTS_RUNTIME_TOKENIZER_TOKENIZER_FILES_H_
#define DESCANT_TESTS_RUNTIME_TOKENIZER_TOKENIZER_FILES_H_

#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/gguf.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

// `path` is relative to the checkout.
inline std::string ReadSourceFile(const std::string& path) {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  std::ifstream file(
      absl::StrCat(root == nullptr ? "." : root, "/", path).c_str());
  DESCANT_CHECK(file.good());
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline nlohmann::json ReadSourceJson(const std::string& path) {
  return nlohmann::json::parse(ReadSourceFile(path));
}

inline std::string GoldenTokenizer(const std::string& name) {
  return ReadSourceFile(
      absl::StrCat("tests/golden/tokenizers/", name, "/tokenizer.json"));
}

// The tokenizer keys of the demo model.
inline absl::StatusOr<GgufVocabulary> DemoVocabulary() {
  const char* deps = std::getenv("DESCANT_DEPS_DIR");
  DESCANT_ASSIGN_OR_RETURN(
      const std::unique_ptr<GgufFile> file,
      GgufFile::Open(absl::StrCat(deps == nullptr ? ".deps" : deps,
                                  "/models/SmolLM2-135M-Instruct.Q4_1.gguf")));
  const GgufIndex& index = file->index();
  const auto tokens = index.GetStringArray("tokenizer.ggml.tokens");
  const auto merges = index.GetStringArray("tokenizer.ggml.merges");
  const auto types = index.GetIntArray("tokenizer.ggml.token_type");
  DESCANT_CHECK(tokens.has_value() && merges.has_value() && types.has_value());
  GgufVocabulary vocabulary;
  for (const absl::string_view token : *tokens) {
    vocabulary.tokens.emplace_back(token);
  }
  for (const absl::string_view merge : *merges) {
    vocabulary.merges.emplace_back(merge);
  }
  for (const int64_t type : *types) {
    vocabulary.token_types.push_back(static_cast<int32_t>(type));
  }
  vocabulary.model = std::string(*index.GetString("tokenizer.ggml.model"));
  vocabulary.pre = std::string(*index.GetString("tokenizer.ggml.pre"));
  vocabulary.bos =
      static_cast<int>(*index.GetInt("tokenizer.ggml.bos_token_id"));
  vocabulary.eos =
      static_cast<int>(*index.GetInt("tokenizer.ggml.eos_token_id"));
  vocabulary.add_bos =
      index.GetBool("tokenizer.ggml.add_bos_token").value_or(false);
  vocabulary.chat_template =
      std::string(*index.GetString("tokenizer.chat_template"));
  return vocabulary;
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_TOKENIZER_TOKENIZER_FILES_H_
