// The models of tokenizer.json.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/hf_components.h"
#include "runtime/tokenizer/tokenizer_parts.h"
#include "runtime/tokenizer/unigram.h"
#include "runtime/tokenizer/word_piece.h"

namespace descant {
namespace {

absl::StatusOr<TokenVocabulary> ReadVocabulary(const Json& model) {
  DESCANT_ASSIGN_OR_RETURN(const Json* entries, Object(model, "vocab"));
  TokenVocabulary vocabulary;
  vocabulary.reserve(entries->size());
  for (const auto& [token, value] : entries->items()) {
    DESCANT_ASSIGN_OR_RETURN(const int32_t id,
                             TokenIdFrom(value, "tokenizer.json: vocab"));
    vocabulary.emplace(token, id);
  }
  return vocabulary;
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
    // The first line of a merges.txt.
    if (absl::StartsWith(text, "#version")) continue;
    const size_t space = text.find(' ');
    if (space == std::string::npos ||
        text.find(' ', space + 1) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer.json: merge ", merges.size(), " is not a pair of tokens"));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

absl::StatusOr<BpeModel::Options> ReadBpeOptions(
    const Json& model, const TokenVocabulary& vocabulary) {
  if (const Json* dropout = Member(model, "dropout");
      dropout != nullptr && *dropout != 0.0) {
    return Unsupported("model option", "dropout");
  }
  BpeModel::Options options;
  DESCANT_ASSIGN_OR_RETURN(options.ignore_merges,
                           BoolOr(model, "ignore_merges", false));
  DESCANT_ASSIGN_OR_RETURN(options.fuse_unknown,
                           BoolOr(model, "fuse_unk", false));
  DESCANT_ASSIGN_OR_RETURN(options.byte_fallback,
                           BoolOr(model, "byte_fallback", false));
  DESCANT_ASSIGN_OR_RETURN(options.continuing_subword_prefix,
                           StringOr(model, "continuing_subword_prefix", ""));
  DESCANT_ASSIGN_OR_RETURN(options.end_of_word_suffix,
                           StringOr(model, "end_of_word_suffix", ""));
  if (Member(model, "unk_token") == nullptr) return options;
  DESCANT_ASSIGN_OR_RETURN(const std::string unknown,
                           String(model, "unk_token"));
  const auto it = vocabulary.find(unknown);
  // Hugging Face finds out when it needs one.
  options.refuse_unknown = it == vocabulary.end();
  if (it != vocabulary.end()) options.unknown_id = it->second;
  return options;
}

absl::StatusOr<std::unique_ptr<TokenModel>> ReadBpe(const Json& model,
                                                    bool* byte_level) {
  DESCANT_ASSIGN_OR_RETURN(TokenVocabulary vocabulary, ReadVocabulary(model));
  DESCANT_ASSIGN_OR_RETURN(BpeModel::Options options,
                           ReadBpeOptions(model, vocabulary));
  *byte_level &= !options.byte_fallback &&
                 options.continuing_subword_prefix.empty() &&
                 options.end_of_word_suffix.empty();
  options.byte_level = *byte_level;
  DESCANT_ASSIGN_OR_RETURN(const BpeModel::Merges merges, ReadMerges(model));
  return BpeModel::Create(std::move(vocabulary), merges, std::move(options));
}

absl::StatusOr<std::unique_ptr<TokenModel>> ReadWordPiece(const Json& model) {
  DESCANT_ASSIGN_OR_RETURN(TokenVocabulary vocabulary, ReadVocabulary(model));
  WordPieceModel::Options options;
  DESCANT_ASSIGN_OR_RETURN(options.unknown_token, String(model, "unk_token"));
  DESCANT_ASSIGN_OR_RETURN(options.continuing_subword_prefix,
                           String(model, "continuing_subword_prefix"));
  const Json* limit = Member(model, "max_input_chars_per_word");
  if (limit == nullptr || !limit->is_number_unsigned()) {
    return absl::InvalidArgumentError(
        "\"max_input_chars_per_word\" must be a count");
  }
  options.max_characters_per_word = limit->get<size_t>();
  return WordPieceModel::Create(std::move(vocabulary), std::move(options));
}

absl::StatusOr<std::unique_ptr<TokenModel>> ReadUnigram(const Json& model) {
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(model, "vocab"));
  if (array->size() > static_cast<size_t>(TokenTable::kMaxSize)) {
    return absl::InvalidArgumentError("tokenizer.json: vocab is too large");
  }
  std::vector<std::pair<std::string, double>> vocabulary;
  vocabulary.reserve(array->size());
  for (const Json& item : *array) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() ||
        !item[1].is_number()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.json: vocab entry ", vocabulary.size(),
                       " is not a token and its score"));
    }
    vocabulary.emplace_back(item[0].get<std::string>(), item[1].get<double>());
  }
  UnigramModel::Options options;
  DESCANT_ASSIGN_OR_RETURN(options.byte_fallback,
                           BoolOr(model, "byte_fallback", false));
  if (const Json* unknown = Member(model, "unk_id"); unknown != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(options.unknown_id,
                             TokenIdFrom(*unknown, "tokenizer.json: unk_id"));
  }
  return UnigramModel::Create(std::move(vocabulary), options);
}

// Older files don't name the type.
absl::StatusOr<std::string> ModelType(const Json& model) {
  if (Member(model, "type") != nullptr) return String(model, "type");
  if (Member(model, "merges") != nullptr) return std::string("BPE");
  if (Member(model, "max_input_chars_per_word") != nullptr) {
    return std::string("WordPiece");
  }
  if (Member(model, "unk_token") != nullptr) return std::string("WordLevel");
  return std::string("Unigram");
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ReadModel(const Json& root,
                                                      bool* byte_level) {
  DESCANT_ASSIGN_OR_RETURN(const Json* model, Object(root, "model"));
  DESCANT_ASSIGN_OR_RETURN(const std::string type, ModelType(*model));
  if (type == "BPE") return ReadBpe(*model, byte_level);
  *byte_level = false;
  if (type == "WordPiece") return ReadWordPiece(*model);
  if (type == "Unigram") return ReadUnigram(*model);
  if (type == "WordLevel") {
    DESCANT_ASSIGN_OR_RETURN(TokenVocabulary vocabulary,
                             ReadVocabulary(*model));
    DESCANT_ASSIGN_OR_RETURN(const std::string unknown,
                             String(*model, "unk_token"));
    return WordLevelModel::Create(std::move(vocabulary), unknown);
  }
  return Unsupported("model", type);
}

}  // namespace descant
