#include "runtime/model/gguf_vocabulary.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/gguf_keys.h"

namespace descant {
namespace {

constexpr absl::string_view kEndTexts[] = {
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"};
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;

void ReadLists(GgufKeys* keys, GgufVocabulary* vocabulary) {
  const GgufIndex& index = keys->index();
  const auto tokens = index.GetStringArray("tokenizer.ggml.tokens");
  if (!tokens.has_value()) {
    keys->Fail("key tokenizer.ggml.tokens must be a string array");
    return;
  }
  for (const absl::string_view token : *tokens) {
    vocabulary->tokens.emplace_back(token);
  }
  if (keys->Has("tokenizer.ggml.merges")) {
    const auto merges = index.GetStringArray("tokenizer.ggml.merges");
    if (!merges.has_value()) {
      keys->Fail("key tokenizer.ggml.merges must be a string array");
      return;
    }
    for (const absl::string_view merge : *merges) {
      vocabulary->merges.emplace_back(merge);
    }
  }
  if (const auto scores = index.GetFloatArray("tokenizer.ggml.scores");
      scores.has_value()) {
    vocabulary->scores = *scores;
  }
  if (const auto types = index.GetIntArray("tokenizer.ggml.token_type");
      types.has_value()) {
    vocabulary->token_types.assign(types->begin(), types->end());
  }
}

}  // namespace

absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const GgufIndex& index,
                                                  const std::string& path) {
  GgufKeys keys(index, path);
  GgufVocabulary vocabulary;
  ReadLists(&keys, &vocabulary);
  vocabulary.model = keys.String("tokenizer.ggml.model", "");
  vocabulary.pre = keys.String("tokenizer.ggml.pre", "");
  vocabulary.bos = keys.Int("tokenizer.ggml.bos_token_id", -1);
  vocabulary.eos = keys.Int("tokenizer.ggml.eos_token_id", -1);
  vocabulary.pad = keys.Int("tokenizer.ggml.padding_token_id", -1);
  vocabulary.unk = keys.Int("tokenizer.ggml.unknown_token_id", -1);
  for (const auto& [key, flag] :
       {std::pair("tokenizer.ggml.add_bos_token", &vocabulary.add_bos),
        std::pair("tokenizer.ggml.add_eos_token", &vocabulary.add_eos)}) {
    if (keys.Has(key)) *flag = keys.Bool(key, false);
  }
  vocabulary.add_space_prefix =
      keys.Bool("tokenizer.ggml.add_space_prefix", true);
  vocabulary.specials_strip_right =
      vocabulary.model == "llama" &&
      keys.String("general.architecture", "") == "phi3";
  vocabulary.chat_template =
      keys.String("tokenizer.chat_template",
                  keys.String("tokenizer.chat_template.default", ""));
  DESCANT_RETURN_IF_ERROR(keys.status());
  return vocabulary;
}

std::vector<int32_t> GgufEndTokens(const GgufIndex& index,
                                   const GgufVocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (const absl::string_view name : {"eos", "eot", "eom"}) {
    const std::optional<int64_t> id =
        index.GetInt(absl::StrCat("tokenizer.ggml.", name, "_token_id"));
    if (id.has_value()) ids.push_back(static_cast<int32_t>(*id));
  }
  for (size_t i = 0;
       i < vocabulary.token_types.size() && i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.token_types[i] != kControl &&
        vocabulary.token_types[i] != kUserDefined) {
      continue;
    }
    for (const absl::string_view text : kEndTexts) {
      if (vocabulary.tokens[i] == text) ids.push_back(static_cast<int32_t>(i));
    }
  }
  return ids;
}

}  // namespace descant
