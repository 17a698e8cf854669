#include "runtime/tokenizer/bpe.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/byte_level.h"

namespace descant {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

// The heap's top is the lowest rank, of equals the leftmost.
struct ComesLater {
  bool operator()(const BpeScratch::Candidate& a,
                  const BpeScratch::Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Create(Vocabulary vocabulary,
                                          const Merges& merges,
                                          Options options) {
  BpeModel model;
  model.options_ = options;
  const auto find = [&](const std::string& token) {
    const auto it = vocabulary.find(token);
    return it == vocabulary.end() ? -1 : it->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    model.byte_ids_[byte] = find(ToByteLevel(absl::string_view(&c, 1)));
  }
  model.merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const int32_t left_id = find(left);
    const int32_t right_id = find(right);
    const int32_t merged_id = find(absl::StrCat(left, right));
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", rank, " (\"", left, " ", right,
                       "\") names a token that is not in the vocabulary"));
    }
    model.merges_.insert_or_assign(PairKey(left_id, right_id),
                                   Merge{rank++, merged_id});
  }
  for (const auto& [token, id] : vocabulary) {
    model.longest_token_ = std::max(model.longest_token_, token.size());
  }
  model.vocabulary_ = std::move(vocabulary);
  return model;
}

void BpeModel::Encode(absl::string_view piece, BpeScratch* scratch,
                      std::vector<int32_t>* ids) const {
  if (options_.ignore_merges && piece.size() <= longest_token_) {
    const auto it = vocabulary_.find(ToByteLevel(piece));
    if (it != vocabulary_.end()) {
      ids->push_back(it->second);
      return;
    }
  }
  FillSymbols(piece, scratch);
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    PushPair(static_cast<int32_t>(i), scratch);
  }
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater());
    const BpeScratch::Candidate top = heap.back();
    heap.pop_back();
    BpeScratch::Symbol& left = symbols[top.position];
    if (left.id < 0 || left.next < 0) continue;
    BpeScratch::Symbol& right = symbols[left.next];
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
  for (const BpeScratch::Symbol& symbol : symbols) {
    if (symbol.id >= 0) ids->push_back(symbol.id);
  }
}

void BpeModel::FillSymbols(absl::string_view piece, BpeScratch* scratch) const {
  auto& symbols = scratch->symbols;
  symbols.clear();
  bool after_unknown = false;
  for (const char c : piece) {
    int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) {
      if (!options_.unknown_id.has_value() ||
          (after_unknown && options_.fuse_unknown)) {
        continue;
      }
      id = *options_.unknown_id;
      after_unknown = true;
    } else {
      after_unknown = false;
    }
    const auto position = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  }
  if (!symbols.empty()) symbols.back().next = -1;
}

void BpeModel::PushPair(int32_t left, BpeScratch* scratch) const {
  const BpeScratch::Symbol& symbol = scratch->symbols[left];
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

}  // namespace descant
