#include "runtime/core/prompt_lookup.h"

#include <algorithm>
#include <bit>

#include "runtime/base/check.h"

namespace descant {
namespace {

// Tokens before `end` that are equal to the last ones, at most kMaxMatch.
int32_t CommonEnd(absl::Span<const int32_t> tokens, int32_t end) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  const int32_t most = std::min(end, PromptLookup::kMaxMatch);
  int32_t common = 0;
  while (common < most &&
         tokens[end - 1 - common] == tokens[size - 1 - common]) {
    ++common;
  }
  return common;
}

}  // namespace

PromptLookup::PromptLookup(int32_t max_tokens)
    : last_(std::bit_ceil(static_cast<uint32_t>(std::max(max_tokens, 64)))),
      previous_(static_cast<size_t>(max_tokens) + 1) {}

size_t PromptLookup::BucketOf(absl::Span<const int32_t> tokens,
                              int32_t end) const {
  uint64_t hash = 0;
  for (int32_t i = end - kMinMatch; i < end; ++i) {
    hash = (hash + static_cast<uint32_t>(tokens[i])) * 0x9e3779b97f4a7c15;
  }
  return (hash >> 32) & (last_.size() - 1);
}

// While the text goes on as it did there, the occurrence stays the longest one:
// any other one's length grows by as much.
void PromptLookup::Follow(absl::Span<const int32_t> tokens) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  for (; seen_ < size; ++seen_) {
    if (match_ == 0) continue;
    match_ = tokens[match_] == tokens[seen_] ? match_ + 1 : 0;
  }
}

// All ends but that of the text itself.
void PromptLookup::Index(absl::Span<const int32_t> tokens) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  while (indexed_ + 1 < size) {
    const int32_t end = ++indexed_;
    int32_t& last = last_[BucketOf(tokens, end)];
    previous_[end] = last;
    last = end;
  }
}

int32_t PromptLookup::Find(absl::Span<const int32_t> tokens) const {
  const int32_t size = static_cast<int32_t>(tokens.size());
  if (size <= kMinMatch) return 0;
  int32_t best = 0;
  int32_t longest = kMinMatch - 1;
  int32_t end = last_[BucketOf(tokens, size)];
  for (int32_t i = 0; i < kMaxCandidates && end != 0; ++i) {
    const int32_t common = CommonEnd(tokens, end);
    if (common > longest) {
      longest = common;
      best = end;
      if (common == kMaxMatch) break;
    }
    end = previous_[end];
  }
  return best;
}

int32_t PromptLookup::Propose(absl::Span<const int32_t> tokens,
                              absl::Span<int32_t> drafts) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  DESCANT_CHECK(size >= seen_ && tokens.size() < previous_.size());
  Follow(tokens);
  Index(tokens);
  if (match_ == 0) match_ = Find(tokens);
  if (match_ == 0) return 0;
  const int32_t count = static_cast<int32_t>(drafts.size());
  for (int32_t i = 0; i < count; ++i) {
    const int32_t from = match_ + i;
    drafts[i] = from < size ? tokens[from] : drafts[from - size];
  }
  return count;
}

}  // namespace descant
