#include "runtime/tokenizer/bpe.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_fallback.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

// The heap's top is the lowest rank, of equals the leftmost.
struct ComesLater {
  bool operator()(const ModelScratch::Candidate& a,
                  const ModelScratch::Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

// Rank of each id: 0 is the highest score, equal scores share one.
std::vector<uint32_t> RanksByScore(absl::Span<const float> scores) {
  std::vector<int32_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  std::vector<uint32_t> ranks(scores.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

void BpeModel::Index(Vocabulary vocabulary, Options options) {
  options_ = std::move(options);
  const auto find = [&](const std::string& token) {
    const auto it = vocabulary.find(token);
    return it == vocabulary.end() ? -1 : it->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[byte] = find(ToByteLevel(absl::string_view(&c, 1)));
    fallback_ids_[byte] = find(ByteToken(static_cast<uint8_t>(byte)));
  }
  for (const auto& [token, id] : vocabulary) {
    longest_token_ = std::max(longest_token_, options_.byte_level
                                                  ? FromByteLevel(token).size()
                                                  : token.size());
  }
  vocabulary_ = std::move(vocabulary);
}

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::Create(
    Vocabulary vocabulary, const Merges& merges, Options options) {
  auto model = std::unique_ptr<BpeModel>(new BpeModel());
  model->Index(std::move(vocabulary), std::move(options));
  const std::string& prefix = model->options_.continuing_subword_prefix;
  model->merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const auto left_id = model->Find(left);
    const auto right_id = model->Find(right);
    std::optional<int32_t> merged_id;
    if (right.size() >= prefix.size()) {
      merged_id = model->Find(absl::StrCat(left, right.substr(prefix.size())));
    }
    if (!left_id.has_value() || !right_id.has_value() ||
        !merged_id.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", rank, " (\"", left, " ", right,
                       "\") names a token that is not in the vocabulary"));
    }
    model->merges_.insert_or_assign(PairKey(*left_id, *right_id),
                                    Merge{rank++, *merged_id});
  }
  return model;
}

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::CreateFromScores(
    Vocabulary vocabulary, absl::Span<const float> scores,
    const std::vector<bool>& unmergeable, Options options) {
  for (const float score : scores) {
    if (!std::isfinite(score)) {
      return absl::InvalidArgumentError("a token's score is not finite");
    }
  }
  const std::vector<uint32_t> ranks = RanksByScore(scores);
  auto model = std::unique_ptr<BpeModel>(new BpeModel());
  model->Index(std::move(vocabulary), std::move(options));
  for (const auto& [token, id] : model->vocabulary_) {
    if (id < 0 || static_cast<size_t>(id) >= scores.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " has no score"));
    }
    if (static_cast<size_t>(id) < unmergeable.size() && unmergeable[id]) {
      continue;
    }
    const absl::string_view text = token;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = model->vocabulary_.find(text.substr(0, cut));
      if (left == model->vocabulary_.end()) continue;
      const auto right = model->vocabulary_.find(text.substr(cut));
      if (right == model->vocabulary_.end()) continue;
      model->merges_.insert_or_assign(PairKey(left->second, right->second),
                                      Merge{ranks[id], id});
    }
  }
  return model;
}

absl::Status BpeModel::Encode(absl::string_view piece, ModelScratch* scratch,
                              std::vector<int32_t>* ids) const {
  if (options_.ignore_merges && piece.size() <= longest_token_) {
    const auto it = options_.byte_level ? vocabulary_.find(ToByteLevel(piece))
                                        : vocabulary_.find(piece);
    if (it != vocabulary_.end()) {
      ids->push_back(it->second);
      return absl::OkStatus();
    }
  }
  scratch->symbols.clear();
  DESCANT_RETURN_IF_ERROR(options_.byte_level
                              ? FillFromBytes(piece, scratch)
                              : FillFromCharacters(piece, scratch));
  if (!scratch->symbols.empty()) scratch->symbols.back().next = -1;
  MergeAll(scratch);
  for (const ModelScratch::Symbol& symbol : scratch->symbols) {
    if (symbol.id >= 0) ids->push_back(symbol.id);
  }
  return absl::OkStatus();
}

void BpeModel::MergeAll(ModelScratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    PushPair(static_cast<int32_t>(i), scratch);
  }
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater());
    const ModelScratch::Candidate top = heap.back();
    heap.pop_back();
    ModelScratch::Symbol& left = symbols[top.position];
    if (left.id < 0 || left.next < 0) continue;
    ModelScratch::Symbol& right = symbols[left.next];
    // The pair may have changed since it was pushed.
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->merged_id != top.merged_id) continue;
    left.id = merge->merged_id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      symbols[left.next].previous = top.position;
      PushPair(top.position, scratch);
    }
    if (left.previous >= 0) PushPair(left.previous, scratch);
  }
}

void BpeModel::AddSymbol(int32_t id, ModelScratch* scratch) const {
  const auto position = static_cast<int32_t>(scratch->symbols.size());
  scratch->symbols.push_back({id, position - 1, position + 1});
}

absl::Status BpeModel::AddUnknown(std::optional<int32_t>* pending,
                                  ModelScratch* scratch) const {
  if (options_.refuse_unknown) {
    return absl::InvalidArgumentError(
        "the text has what the tokenizer's vocabulary lacks, and its unknown "
        "token is not in the vocabulary");
  }
  if (!options_.unknown_id.has_value()) return absl::OkStatus();
  if (pending->has_value() && !options_.fuse_unknown) {
    AddSymbol(**pending, scratch);
  }
  *pending = options_.unknown_id;
  return absl::OkStatus();
}

absl::Status BpeModel::FillFromBytes(absl::string_view piece,
                                     ModelScratch* scratch) const {
  std::optional<int32_t> unknown;
  for (const char c : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) {
      DESCANT_RETURN_IF_ERROR(AddUnknown(&unknown, scratch));
      continue;
    }
    if (unknown.has_value()) AddSymbol(*unknown, scratch);
    unknown.reset();
    AddSymbol(id, scratch);
  }
  if (unknown.has_value()) AddSymbol(*unknown, scratch);
  return absl::OkStatus();
}

absl::Status BpeModel::FillFromCharacters(absl::string_view piece,
                                          ModelScratch* scratch) const {
  const std::string& prefix = options_.continuing_subword_prefix;
  const std::string& suffix = options_.end_of_word_suffix;
  std::optional<int32_t> unknown;
  for (size_t position = 0; position < piece.size();) {
    const size_t length = NextUtf8(piece.substr(position)).length;
    absl::string_view character = piece.substr(position, length);
    const bool first = position == 0;
    position += length;
    const bool last = position == piece.size();
    if ((!first && !prefix.empty()) || (last && !suffix.empty())) {
      scratch->text =
          absl::StrCat(first ? "" : prefix, character, last ? suffix : "");
      character = scratch->text;
    }
    const auto it = vocabulary_.find(character);
    if (it != vocabulary_.end()) {
      if (unknown.has_value()) AddSymbol(*unknown, scratch);
      unknown.reset();
      AddSymbol(it->second, scratch);
      continue;
    }
    // An unknown token before these bytes comes after them, as in Hugging
    // Face; with all 256 byte tokens there is none.
    if (options_.byte_fallback && AddBytes(character, scratch)) continue;
    DESCANT_RETURN_IF_ERROR(AddUnknown(&unknown, scratch));
  }
  if (unknown.has_value()) AddSymbol(*unknown, scratch);
  return absl::OkStatus();
}

bool BpeModel::AddBytes(absl::string_view bytes, ModelScratch* scratch) const {
  for (const char c : bytes) {
    if (fallback_ids_[static_cast<unsigned char>(c)] < 0) return false;
  }
  for (const char c : bytes) {
    AddSymbol(fallback_ids_[static_cast<unsigned char>(c)], scratch);
  }
  return true;
}

void BpeModel::PushPair(int32_t left, ModelScratch* scratch) const {
  const ModelScratch::Symbol& symbol = scratch->symbols[left];
  const Merge* merge = FindMerge(symbol.id, scratch->symbols[symbol.next].id);
  if (merge == nullptr) return;
  scratch->heap.push_back({merge->rank, left, merge->merged_id});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), ComesLater());
}

const BpeModel::Merge* BpeModel::FindMerge(int32_t left_id,
                                           int32_t right_id) const {
  const auto it = merges_.find(PairKey(left_id, right_id));
  return it == merges_.end() ? nullptr : &it->second;
}

std::optional<int32_t> BpeModel::Find(absl::string_view token) const {
  const auto it = vocabulary_.find(token);
  if (it == vocabulary_.end()) return std::nullopt;
  return it->second;
}

void BpeModel::ForEachToken(
    absl::FunctionRef<void(absl::string_view, int32_t)> visit) const {
  for (const auto& [token, id] : vocabulary_) visit(token, id);
}

std::optional<size_t> BpeModel::longest_token() const {
  const bool has_all_bytes =
      std::all_of(fallback_ids_.begin(), fallback_ids_.end(),
                  [](int32_t id) { return id >= 0; });
  const bool fuses = options_.unknown_id.has_value() && options_.fuse_unknown &&
                     !options_.refuse_unknown;
  const bool drops = !options_.unknown_id.has_value() &&
                     !options_.refuse_unknown && !options_.byte_level;
  if ((fuses || drops) && !(options_.byte_fallback && has_all_bytes)) {
    return std::nullopt;
  }
  // An unknown token stands for one character.
  return std::max<size_t>(longest_token_, 4);
}

}  // namespace descant
