#include "runtime/tokenizer/word_piece.h"

#include <utility>

#include "absl/status/status.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

std::optional<int32_t> FindIn(const TokenVocabulary& vocabulary,
                              absl::string_view token) {
  const auto it = vocabulary.find(token);
  if (it == vocabulary.end()) return std::nullopt;
  return it->second;
}

absl::Status AppendUnknown(std::optional<int32_t> unknown_id,
                           std::vector<int32_t>* ids) {
  if (!unknown_id.has_value()) {
    return absl::InvalidArgumentError(
        "the text has what the tokenizer's vocabulary lacks, and its unknown "
        "token is not in the vocabulary");
  }
  ids->push_back(*unknown_id);
  return absl::OkStatus();
}

// Whether `text` has at most `limit` characters.
bool IsShort(absl::string_view text, size_t limit) {
  size_t count = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80 && ++count > limit) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<WordPieceModel> WordPieceModel::Create(
    TokenVocabulary vocabulary, Options options) {
  auto model = std::unique_ptr<WordPieceModel>(new WordPieceModel());
  for (const auto& [token, id] : vocabulary) {
    model->trie_.set_value(model->trie_.Insert(token), id);
  }
  model->continuing_node_ =
      model->trie_.Insert(options.continuing_subword_prefix);
  model->unknown_id_ = FindIn(vocabulary, options.unknown_token);
  model->vocabulary_ = std::move(vocabulary);
  model->options_ = std::move(options);
  return model;
}

absl::Status WordPieceModel::Encode(absl::string_view piece, ModelScratch*,
                                    std::vector<int32_t>* ids) const {
  if (!IsShort(piece, options_.max_characters_per_word)) {
    return AppendUnknown(unknown_id_, ids);
  }
  const size_t before = ids->size();
  size_t start = 0;
  while (start < piece.size()) {
    uint32_t node = start == 0 ? ByteTrie::kRoot : continuing_node_;
    size_t longest = start;
    int32_t id = ByteTrie::kNone;
    for (size_t end = start; end < piece.size();) {
      if (!trie_.Step(piece[end], &node)) break;
      ++end;
      if (trie_.value(node) != ByteTrie::kNone) {
        longest = end;
        id = trie_.value(node);
      }
    }
    if (id == ByteTrie::kNone) {
      ids->resize(before);
      return AppendUnknown(unknown_id_, ids);
    }
    ids->push_back(id);
    start = longest;
  }
  return absl::OkStatus();
}

std::optional<int32_t> WordPieceModel::Find(absl::string_view token) const {
  return FindIn(vocabulary_, token);
}

void WordPieceModel::ForEachToken(
    absl::FunctionRef<void(absl::string_view, int32_t)> visit) const {
  for (const auto& [token, id] : vocabulary_) visit(token, id);
}

std::unique_ptr<WordLevelModel> WordLevelModel::Create(
    TokenVocabulary vocabulary, absl::string_view unknown_token) {
  auto model = std::unique_ptr<WordLevelModel>(new WordLevelModel());
  model->unknown_id_ = FindIn(vocabulary, unknown_token);
  model->vocabulary_ = std::move(vocabulary);
  return model;
}

absl::Status WordLevelModel::Encode(absl::string_view piece, ModelScratch*,
                                    std::vector<int32_t>* ids) const {
  const auto id = Find(piece);
  if (!id.has_value()) return AppendUnknown(unknown_id_, ids);
  ids->push_back(*id);
  return absl::OkStatus();
}

std::optional<int32_t> WordLevelModel::Find(absl::string_view token) const {
  return FindIn(vocabulary_, token);
}

void WordLevelModel::ForEachToken(
    absl::FunctionRef<void(absl::string_view, int32_t)> visit) const {
  for (const auto& [token, id] : vocabulary_) visit(token, id);
}

}  // namespace descant
