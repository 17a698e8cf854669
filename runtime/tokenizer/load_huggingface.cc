// Tokenizer::FromHuggingFace().
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/hf_components.h"
#include "runtime/tokenizer/json_view.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {
namespace {

absl::StatusOr<AddedToken> ReadAddedToken(const Json& item) {
  AddedToken token;
  DESCANT_ASSIGN_OR_RETURN(token.content, String(item, "content"));
  const Json* id = Member(item, "id");
  if (token.content.empty() || id == nullptr) {
    return absl::InvalidArgumentError(
        "tokenizer.json: an added token has no content or no id");
  }
  DESCANT_ASSIGN_OR_RETURN(token.id,
                           TokenIdFrom(*id, "tokenizer.json: added_tokens"));
  DESCANT_ASSIGN_OR_RETURN(token.special, BoolOr(item, "special", false));
  DESCANT_ASSIGN_OR_RETURN(token.lstrip, BoolOr(item, "lstrip", false));
  DESCANT_ASSIGN_OR_RETURN(token.rstrip, BoolOr(item, "rstrip", false));
  DESCANT_ASSIGN_OR_RETURN(token.single_word,
                           BoolOr(item, "single_word", false));
  DESCANT_ASSIGN_OR_RETURN(token.normalized,
                           BoolOr(item, "normalized", !token.special));
  return token;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(
    const Json& root, const TokenModel& model) {
  std::vector<AddedToken> added;
  if (Member(root, "added_tokens") == nullptr) return added;
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(root, "added_tokens"));
  absl::flat_hash_map<std::string, int32_t> ids;
  auto next = static_cast<int32_t>(
      std::min<size_t>(model.size(), TokenTable::kMaxSize));
  for (const Json& item : *array) {
    DESCANT_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(item));
    // Hugging Face goes by the vocabulary, or counts on, and only warns.
    auto id = model.Find(token.content);
    if (const auto it = ids.find(token.content); it != ids.end()) {
      id = it->second;
    }
    if (!id.has_value()) id = next++;
    if (*id != token.id) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.json: added token \"", token.content,
                       "\" has id ", token.id, ", but it is token ", *id));
    }
    ids.emplace(token.content, token.id);
    added.push_back(std::move(token));
  }
  // Special tokens come first where two have the same text.
  std::stable_sort(added.begin(), added.end(),
                   [](const AddedToken& a, const AddedToken& b) {
                     return a.special && !b.special;
                   });
  return added;
}

// A string, or an object with `content`.
absl::Status ReadNamedToken(const Json& config, const char* name,
                            const TokenizerParts& parts,
                            std::optional<int32_t>* named) {
  const Json* value = Member(config, name);
  if (value == nullptr) return absl::OkStatus();
  std::string text;
  if (value->is_string()) {
    text = value->get<std::string>();
  } else {
    DESCANT_ASSIGN_OR_RETURN(text, String(*value, "content"));
  }
  *named = parts.TokenId(text);
  if (!named->has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer_config.json: ", name, " \"", text, "\" is not a token"));
  }
  return absl::OkStatus();
}

// A string, or a list of named templates of which "default" and "tool_use"
// count.
absl::Status ReadChatTemplates(const Json& config, TokenizerParts* parts) {
  const Json* value = Member(config, "chat_template");
  if (value == nullptr || !value->is_array()) {
    DESCANT_ASSIGN_OR_RETURN(parts->chat_template,
                             StringOr(config, "chat_template", ""));
    return absl::OkStatus();
  }
  for (const Json& item : *value) {
    DESCANT_ASSIGN_OR_RETURN(const std::string name, String(item, "name"));
    if (name != "default" && name != "tool_use") continue;
    DESCANT_ASSIGN_OR_RETURN(
        (name == "default" ? parts->chat_template : parts->tool_use_template),
        String(item, "template"));
  }
  return absl::OkStatus();
}

absl::Status ReadConfig(absl::string_view text, TokenizerParts* parts) {
  DESCANT_ASSIGN_OR_RETURN(const Json config,
                           ParseJsonObject(text, "tokenizer_config.json"));
  NamedTokens& named = parts->named;
  DESCANT_RETURN_IF_ERROR(
      ReadNamedToken(config, "bos_token", *parts, &named.bos));
  DESCANT_RETURN_IF_ERROR(
      ReadNamedToken(config, "eos_token", *parts, &named.eos));
  DESCANT_RETURN_IF_ERROR(
      ReadNamedToken(config, "pad_token", *parts, &named.pad));
  DESCANT_RETURN_IF_ERROR(
      ReadNamedToken(config, "unk_token", *parts, &named.unk));
  return ReadChatTemplates(config, parts);
}

// Whether some text becomes no token at all.
bool DropsText(const TokenizerParts::Components& parts,
               const std::vector<PreTokenizerStep>& steps) {
  for (const PreTokenizerStep& step : steps) {
    const auto* split = std::get_if<SplitStep>(&step);
    if (split != nullptr && split->behavior == SplitBehavior::kRemoved) {
      return true;
    }
  }
  for (const AddedToken& token : parts.added) {
    if (token.lstrip || token.rstrip) return true;
  }
  return false;
}

// A normalizer that never makes text shorter: it spells spaces.
bool KeepsText(const std::vector<NormalizerStep>& steps) {
  for (const NormalizerStep& step : steps) {
    const auto* replace = std::get_if<ReplaceStep>(&step);
    const bool spaces = replace != nullptr && !replace->content.empty();
    if (!std::holds_alternative<PrependStep>(step) && !spaces) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromHuggingFace(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json) {
  DESCANT_ASSIGN_OR_RETURN(const Json root,
                           ParseJsonObject(tokenizer_json, "tokenizer.json"));
  TokenizerParts::Components components;
  DESCANT_ASSIGN_OR_RETURN(auto normalizer, ReadNormalizer(root));
  DESCANT_ASSIGN_OR_RETURN(auto pre_tokenizer, ReadPreTokenizer(root));
  DESCANT_ASSIGN_OR_RETURN(components.decoder, ReadDecoder(root));
  // Byte pairs are found over raw bytes, without spelling them, where nothing
  // looks at the spelling in between.
  auto* last = pre_tokenizer.empty()
                   ? nullptr
                   : std::get_if<ByteLevelStep>(&pre_tokenizer.back());
  bool raw_bytes = last != nullptr;
  DESCANT_ASSIGN_OR_RETURN(components.model, ReadModel(root, &raw_bytes));
  for (PreTokenizerStep& step : pre_tokenizer) {
    auto* byte_level = std::get_if<ByteLevelStep>(&step);
    if (byte_level == nullptr) continue;
    byte_level->spell = byte_level != last || !raw_bytes;
  }
  DESCANT_ASSIGN_OR_RETURN(components.added,
                           ReadAddedTokens(root, *components.model));
  const bool drops_text =
      DropsText(components, pre_tokenizer) || !KeepsText(normalizer);
  components.normalizer = Normalizer(std::move(normalizer));
  components.pre_tokenizer = PreTokenizer(std::move(pre_tokenizer));
  DESCANT_ASSIGN_OR_RETURN(auto parts,
                           TokenizerParts::Create(std::move(components)));
  parts->drops_text = drops_text;
  DESCANT_ASSIGN_OR_RETURN(PostProcessing post, ReadPostProcessor(root));
  parts->prefix = std::move(post.prefix);
  parts->suffix = std::move(post.suffix);
  if (!tokenizer_config_json.empty()) {
    DESCANT_RETURN_IF_ERROR(ReadConfig(tokenizer_config_json, parts.get()));
  }
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace descant
