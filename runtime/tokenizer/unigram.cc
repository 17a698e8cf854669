#include "runtime/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_fallback.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

constexpr double kUnknownPenalty = 10.0;
// Stands for the unknown token on a path, also where there is none.
constexpr int32_t kUnknown = -1;

}  // namespace

absl::StatusOr<std::unique_ptr<UnigramModel>> UnigramModel::Create(
    std::vector<std::pair<std::string, double>> vocabulary, Options options) {
  auto model = std::unique_ptr<UnigramModel>(new UnigramModel());
  if (options.unknown_id.has_value() &&
      static_cast<size_t>(*options.unknown_id) >= vocabulary.size()) {
    return absl::InvalidArgumentError("unk_id is beyond the vocabulary");
  }
  double least = std::numeric_limits<double>::infinity();
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const auto& [token, score] = vocabulary[id];
    if (!std::isfinite(score)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the score of token ", id, " is not finite"));
    }
    least = std::min(least, score);
    model->trie_.set_value(model->trie_.Insert(token),
                           static_cast<int32_t>(id));
  }
  model->unknown_score_ = least - kUnknownPenalty;
  model->vocabulary_ = std::move(vocabulary);
  model->options_ = options;
  for (int byte = 0; byte < 256; ++byte) {
    model->fallback_ids_[byte] =
        model->Find(ByteToken(static_cast<uint8_t>(byte))).value_or(-1);
  }
  return model;
}

absl::Status UnigramModel::FindBestPath(absl::string_view piece,
                                        ModelScratch* scratch) const {
  auto& ends = scratch->ends;
  ends.assign(piece.size() + 1, {0.0, -1, 0});
  const auto offer = [&](size_t start, size_t end, double score, int32_t id) {
    ModelScratch::PathEnd& target = ends[end];
    if (target.start >= 0 && score <= target.score) return;
    target = {score, static_cast<int32_t>(start), id};
  };
  size_t length = 0;
  for (size_t start = 0; start < piece.size(); start += length) {
    length = NextUtf8(piece.substr(start)).length;
    const double here = ends[start].score;
    bool has_single = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = start; end < piece.size();) {
      if (!trie_.Step(piece[end], &node)) break;
      ++end;
      const int32_t id = trie_.value(node);
      if (id == ByteTrie::kNone) continue;
      offer(start, end, vocabulary_[id].second + here, id);
      has_single |= end - start == length;
    }
    if (has_single) continue;
    const size_t end = start + length;
    if (ends[end].start >= 0 && unknown_score_ + here <= ends[end].score) {
      continue;
    }
    if (!options_.unknown_id.has_value()) {
      return absl::InvalidArgumentError(
          "the text has what the tokenizer's vocabulary lacks, and it has no "
          "unknown token");
    }
    offer(start, end, unknown_score_ + here, kUnknown);
  }
  return absl::OkStatus();
}

absl::Status UnigramModel::Encode(absl::string_view piece,
                                  ModelScratch* scratch,
                                  std::vector<int32_t>* ids) const {
  DESCANT_RETURN_IF_ERROR(FindBestPath(piece, scratch));
  // From the end; neighbouring unknown characters are one span.
  auto& spans = scratch->spans;
  spans.clear();
  bool after_unknown = false;
  for (auto end = static_cast<int32_t>(piece.size()); end > 0;) {
    const ModelScratch::PathEnd& node = scratch->ends[end];
    const bool unknown = node.id == kUnknown || node.id == options_.unknown_id;
    if (unknown && after_unknown) {
      spans.back().first = node.start;
    } else {
      spans.emplace_back(node.start, end);
    }
    after_unknown = unknown;
    end = node.start;
  }
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    DESCANT_RETURN_IF_ERROR(
        AppendSpan(piece.substr(span->first, span->second - span->first), ids));
  }
  return absl::OkStatus();
}

absl::Status UnigramModel::AppendSpan(absl::string_view text,
                                      std::vector<int32_t>* ids) const {
  if (const auto id = Find(text); id.has_value()) {
    ids->push_back(*id);
    return absl::OkStatus();
  }
  if (options_.byte_fallback &&
      std::all_of(text.begin(), text.end(), [&](char c) {
        return fallback_ids_[static_cast<unsigned char>(c)] >= 0;
      })) {
    for (const char c : text) {
      ids->push_back(fallback_ids_[static_cast<unsigned char>(c)]);
    }
    return absl::OkStatus();
  }
  ids->push_back(*options_.unknown_id);
  return absl::OkStatus();
}

std::optional<int32_t> UnigramModel::Find(absl::string_view token) const {
  uint32_t node = ByteTrie::kRoot;
  for (const char c : token) {
    if (!trie_.Step(c, &node)) return std::nullopt;
  }
  const int32_t id = trie_.value(node);
  if (id == ByteTrie::kNone) return std::nullopt;
  return id;
}

void UnigramModel::ForEachToken(
    absl::FunctionRef<void(absl::string_view, int32_t)> visit) const {
  for (size_t id = 0; id < vocabulary_.size(); ++id) {
    visit(vocabulary_[id].first, static_cast<int32_t>(id));
  }
}

}  // namespace descant
