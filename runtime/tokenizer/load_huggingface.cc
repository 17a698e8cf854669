// Tokenizer::FromHuggingFace(): which components of tokenizer.json are served,
// and their refusal by name otherwise.
#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_view.h"
#include "runtime/tokenizer/known_patterns.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {
namespace {

absl::Status Unsupported(absl::string_view part, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("tokenizer.json: ", part, " \"",
                                               what, "\" is not supported"));
}

// A component and, where it is a Sequence (whose items are under `items`), the
// components in it. Nested sequences are not written by anyone.
absl::StatusOr<std::vector<const Json*>> Flatten(const Json& component,
                                                 const char* items) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(component, "type"));
  std::vector<const Json*> flat;
  if (type != "Sequence") {
    flat.push_back(&component);
    return flat;
  }
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(component, items));
  for (const Json& item : *array) flat.push_back(&item);
  return flat;
}

absl::StatusOr<bool> ReadNormalizer(const Json& root) {
  const Json* normalizer = Member(root, "normalizer");
  if (normalizer == nullptr) return false;
  DESCANT_ASSIGN_OR_RETURN(const auto items,
                           Flatten(*normalizer, "normalizers"));
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(const std::string type, String(*item, "type"));
    if (type != "NFC") return Unsupported("normalizer", type);
  }
  return !items.empty();
}

absl::StatusOr<SplitBehavior> ReadBehavior(const Json& split) {
  DESCANT_ASSIGN_OR_RETURN(const std::string name, String(split, "behavior"));
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Unsupported("Split behavior", name);
}

absl::StatusOr<PreTokenizerStep> ReadSplit(const Json& split) {
  PreTokenizerStep step;
  DESCANT_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(split));
  DESCANT_ASSIGN_OR_RETURN(step.invert, BoolOr(split, "invert", false));
  DESCANT_ASSIGN_OR_RETURN(const Json* pattern, Object(split, "pattern"));
  if (Member(*pattern, "Regex") != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(const std::string regex,
                             String(*pattern, "Regex"));
    DESCANT_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(regex));
  } else {
    DESCANT_ASSIGN_OR_RETURN(const std::string text,
                             String(*pattern, "String"));
    DESCANT_ASSIGN_OR_RETURN(step.pattern, Regex::Literal(text));
  }
  return step;
}

absl::StatusOr<PreTokenizerStep> ReadDigits(const Json& digits) {
  PreTokenizerStep step;
  DESCANT_ASSIGN_OR_RETURN(const bool individual,
                           BoolOr(digits, "individual_digits", false));
  step.behavior =
      individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  DESCANT_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(kDigitPattern));
  return step;
}

absl::StatusOr<PreTokenizerStep> ReadByteLevel(const Json& byte_level) {
  PreTokenizerStep step;
  DESCANT_ASSIGN_OR_RETURN(step.add_prefix_space,
                           BoolOr(byte_level, "add_prefix_space", true));
  DESCANT_ASSIGN_OR_RETURN(const bool use_regex,
                           BoolOr(byte_level, "use_regex", true));
  if (use_regex) {
    DESCANT_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(kGpt2Pattern));
  }
  return step;
}

absl::StatusOr<PreTokenizer> ReadPreTokenizer(const Json& root) {
  const Json* component = Member(root, "pre_tokenizer");
  if (component == nullptr) return Unsupported("pre_tokenizer", "null");
  DESCANT_ASSIGN_OR_RETURN(const auto items,
                           Flatten(*component, "pretokenizers"));
  std::vector<PreTokenizerStep> steps;
  bool byte_level = false;
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(const std::string type, String(*item, "type"));
    // From there on the text is spelled in the byte-level alphabet.
    if (byte_level) return Unsupported("pre_tokenizer after ByteLevel", type);
    if (type == "ByteLevel") {
      byte_level = true;
      DESCANT_ASSIGN_OR_RETURN(PreTokenizerStep step, ReadByteLevel(*item));
      steps.push_back(std::move(step));
    } else if (type == "Split") {
      DESCANT_ASSIGN_OR_RETURN(PreTokenizerStep step, ReadSplit(*item));
      steps.push_back(std::move(step));
    } else if (type == "Digits") {
      DESCANT_ASSIGN_OR_RETURN(PreTokenizerStep step, ReadDigits(*item));
      steps.push_back(std::move(step));
    } else {
      return Unsupported("pre_tokenizer", type);
    }
  }
  if (!byte_level) return Unsupported("pre_tokenizer", "without ByteLevel");
  return PreTokenizer(std::move(steps));
}

absl::Status CheckDecoder(const Json& root) {
  const Json* decoder = Member(root, "decoder");
  if (decoder == nullptr) return Unsupported("decoder", "null");
  DESCANT_ASSIGN_OR_RETURN(const auto items, Flatten(*decoder, "decoders"));
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(const std::string type, String(*item, "type"));
    if (type != "ByteLevel") return Unsupported("decoder", type);
  }
  if (items.size() != 1) {
    return Unsupported("decoder", "Sequence of other than one ByteLevel");
  }
  return absl::OkStatus();
}

absl::StatusOr<BpeModel::Merges> ReadMerges(const Json& model) {
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(model, "merges"));
  BpeModel::Merges merges;
  merges.reserve(array->size());
  for (const Json& item : *array) {
    if (item.is_array() && item.size() == 2 && item[0].is_string() &&
        item[1].is_string()) {
      merges.emplace_back(item[0].get<std::string>(),
                          item[1].get<std::string>());
      continue;
    }
    const std::string text = item.is_string() ? item.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer.json: merge ", merges.size(), " is not a pair of tokens"));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

absl::Status RefuseModelOptions(const Json& model) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(model, "type"));
  if (type != "BPE") return Unsupported("model", type);
  if (const Json* dropout = Member(model, "dropout");
      dropout != nullptr && *dropout != 0.0) {
    return Unsupported("model option", "dropout");
  }
  for (const char* option :
       {"continuing_subword_prefix", "end_of_word_suffix"}) {
    DESCANT_ASSIGN_OR_RETURN(const std::string value,
                             StringOr(model, option, ""));
    if (!value.empty()) return Unsupported("model option", option);
  }
  DESCANT_ASSIGN_OR_RETURN(const bool byte_fallback,
                           BoolOr(model, "byte_fallback", false));
  if (byte_fallback) return Unsupported("model option", "byte_fallback");
  return absl::OkStatus();
}

absl::StatusOr<BpeModel> ReadModel(const Json& root) {
  DESCANT_ASSIGN_OR_RETURN(const Json* model, Object(root, "model"));
  DESCANT_RETURN_IF_ERROR(RefuseModelOptions(*model));
  DESCANT_ASSIGN_OR_RETURN(const Json* entries, Object(*model, "vocab"));
  BpeModel::Vocabulary vocabulary;
  vocabulary.reserve(entries->size());
  for (const auto& [token, value] : entries->items()) {
    DESCANT_ASSIGN_OR_RETURN(const int32_t id,
                             TokenIdFrom(value, "tokenizer.json: vocab"));
    vocabulary.emplace(token, id);
  }
  BpeModel::Options options;
  DESCANT_ASSIGN_OR_RETURN(options.ignore_merges,
                           BoolOr(*model, "ignore_merges", false));
  DESCANT_ASSIGN_OR_RETURN(options.fuse_unknown,
                           BoolOr(*model, "fuse_unk", false));
  DESCANT_ASSIGN_OR_RETURN(const std::string unknown,
                           StringOr(*model, "unk_token", ""));
  if (!unknown.empty()) {
    const auto it = vocabulary.find(unknown);
    if (it == vocabulary.end()) {
      return absl::InvalidArgumentError(
          "tokenizer.json: unk_token is not in the vocabulary");
    }
    options.unknown_id = it->second;
  }
  DESCANT_ASSIGN_OR_RETURN(const BpeModel::Merges merges, ReadMerges(*model));
  return BpeModel::Create(std::move(vocabulary), merges, options);
}

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
    const Json& root, const BpeModel::Vocabulary& vocabulary) {
  std::vector<AddedToken> added;
  if (Member(root, "added_tokens") == nullptr) return added;
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(root, "added_tokens"));
  for (const Json& item : *array) {
    DESCANT_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(item));
    // Hugging Face would use the vocabulary's id and only warn.
    const auto it = vocabulary.find(token.content);
    if (it != vocabulary.end() && it->second != token.id) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer.json: added token \"", token.content, "\" has id ",
          token.id, ", but ", it->second, " in the vocabulary"));
    }
    added.push_back(std::move(token));
  }
  // Special tokens come first where two have the same text.
  std::stable_sort(added.begin(), added.end(),
                   [](const AddedToken& a, const AddedToken& b) {
                     return a.special && !b.special;
                   });
  return added;
}

// The ids that one piece of a template stands for.
absl::Status AppendTemplateToken(const Json& processor, const Json& piece,
                                 std::vector<int32_t>* ids) {
  DESCANT_ASSIGN_OR_RETURN(const Json* special, Object(piece, "SpecialToken"));
  DESCANT_ASSIGN_OR_RETURN(const std::string name, String(*special, "id"));
  DESCANT_ASSIGN_OR_RETURN(const Json* known,
                           Object(processor, "special_tokens"));
  DESCANT_ASSIGN_OR_RETURN(const Json* token, Object(*known, name.c_str()));
  DESCANT_ASSIGN_OR_RETURN(const Json* values, Array(*token, "ids"));
  for (const Json& value : *values) {
    DESCANT_ASSIGN_OR_RETURN(
        const int32_t id, TokenIdFrom(value, "tokenizer.json: special_tokens"));
    ids->push_back(id);
  }
  return absl::OkStatus();
}

absl::Status ReadTemplate(const Json& processor, TokenizerParts* parts) {
  DESCANT_ASSIGN_OR_RETURN(const Json* pieces, Array(processor, "single"));
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  int sequences = 0;
  for (const Json& piece : *pieces) {
    if (const Json* sequence = Member(piece, "Sequence"); sequence != nullptr) {
      DESCANT_ASSIGN_OR_RETURN(const std::string id, String(*sequence, "id"));
      if (id != "A") return Unsupported("template sequence", id);
      ++sequences;
      continue;
    }
    DESCANT_RETURN_IF_ERROR(AppendTemplateToken(
        processor, piece, sequences == 0 ? &before : &after));
  }
  if (sequences != 1) {
    return Unsupported("post_processor", "template without exactly one $A");
  }
  parts->prefix = std::move(before);
  parts->suffix = std::move(after);
  return absl::OkStatus();
}

absl::Status ReadPostProcessor(const Json& root, TokenizerParts* parts) {
  const Json* component = Member(root, "post_processor");
  if (component == nullptr) return absl::OkStatus();
  DESCANT_ASSIGN_OR_RETURN(const auto items, Flatten(*component, "processors"));
  bool has_template = false;
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(const std::string type, String(*item, "type"));
    // ByteLevel only moves offsets.
    if (type == "ByteLevel") continue;
    if (type != "TemplateProcessing")
      return Unsupported("post_processor", type);
    if (has_template) return Unsupported("second post_processor", type);
    has_template = true;
    DESCANT_RETURN_IF_ERROR(ReadTemplate(*item, parts));
  }
  return absl::OkStatus();
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

// A string, or a list of named templates of which "default" counts.
absl::StatusOr<std::string> ReadChatTemplate(const Json& config) {
  const Json* value = Member(config, "chat_template");
  if (value == nullptr || !value->is_array()) {
    return StringOr(config, "chat_template", "");
  }
  for (const Json& item : *value) {
    DESCANT_ASSIGN_OR_RETURN(const std::string name, String(item, "name"));
    if (name == "default") return String(item, "template");
  }
  return std::string();
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
  DESCANT_ASSIGN_OR_RETURN(parts->chat_template, ReadChatTemplate(config));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromHuggingFace(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json) {
  DESCANT_ASSIGN_OR_RETURN(const Json root,
                           ParseJsonObject(tokenizer_json, "tokenizer.json"));
  DESCANT_ASSIGN_OR_RETURN(const bool nfc, ReadNormalizer(root));
  DESCANT_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, ReadPreTokenizer(root));
  DESCANT_RETURN_IF_ERROR(CheckDecoder(root));
  DESCANT_ASSIGN_OR_RETURN(BpeModel bpe, ReadModel(root));
  DESCANT_ASSIGN_OR_RETURN(const std::vector<AddedToken> added,
                           ReadAddedTokens(root, bpe.vocabulary()));
  auto parts = std::make_unique<TokenizerParts>(
      std::move(bpe), std::move(pre_tokenizer), added, nfc);
  DESCANT_RETURN_IF_ERROR(ReadPostProcessor(root, parts.get()));
  if (!tokenizer_config_json.empty()) {
    DESCANT_RETURN_IF_ERROR(ReadConfig(tokenizer_config_json, parts.get()));
  }
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace descant
