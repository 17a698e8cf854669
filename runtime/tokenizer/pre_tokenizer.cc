#include "runtime/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

struct Part {
  size_t begin;
  size_t end;
  bool is_match;
};

// All of `text` as matches and the stretches between them.
absl::Status CollectParts(const PreTokenizerStep& step, absl::string_view text,
                          RegexScratch* scratch, std::vector<Part>* parts) {
  size_t last = 0;
  DESCANT_RETURN_IF_ERROR(
      step.pattern->ForEachMatch(text, scratch, [&](size_t begin, size_t end) {
        if (last != begin) parts->push_back({last, begin, step.invert});
        parts->push_back({begin, end, !step.invert});
        last = end;
        return absl::OkStatus();
      }));
  if (last != text.size()) {
    parts->push_back({last, text.size(), step.invert});
  }
  return absl::OkStatus();
}

// A match joins what precedes it, unless that is itself a match: of two
// adjacent matches the second stands alone. `parts` in reading order; for
// kMergedWithNext the caller reverses them before and after.
std::vector<Part> MergeMatches(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous_match = false;
  for (const Part& part : parts) {
    if (part.is_match && !previous_match && !merged.empty()) {
      merged.back().begin = std::min(merged.back().begin, part.begin);
      merged.back().end = std::max(merged.back().end, part.end);
    } else {
      merged.push_back(part);
    }
    previous_match = part.is_match;
  }
  return merged;
}

std::vector<Part> MergeContiguous(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous_match = false;
  for (const Part& part : parts) {
    if (part.is_match == previous_match && !merged.empty()) {
      merged.back().end = part.end;
    } else {
      merged.push_back(part);
    }
    previous_match = part.is_match;
  }
  return merged;
}

void ApplyBehavior(SplitBehavior behavior, std::vector<Part>* parts) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      parts->erase(std::remove_if(parts->begin(), parts->end(),
                                  [](const Part& p) { return p.is_match; }),
                   parts->end());
      return;
    case SplitBehavior::kMergedWithPrevious:
      *parts = MergeMatches(*parts);
      return;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts->begin(), parts->end());
      *parts = MergeMatches(*parts);
      std::reverse(parts->begin(), parts->end());
      return;
    case SplitBehavior::kContiguous:
      *parts = MergeContiguous(*parts);
      return;
  }
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<PreTokenizerStep> steps)
    : steps_(std::move(steps)) {}

absl::Status PreTokenizer::Split(absl::string_view text, RegexScratch* scratch,
                                 Sink sink) const {
  return RunFrom(0, text, scratch, sink);
}

absl::Status PreTokenizer::RunFrom(size_t index, absl::string_view text,
                                   RegexScratch* scratch, Sink sink) const {
  if (text.empty()) return absl::OkStatus();
  if (index == steps_.size()) return sink(text);
  const PreTokenizerStep& step = steps_[index];
  std::string with_space;
  if (step.add_prefix_space && !absl::StartsWith(text, " ")) {
    with_space = absl::StrCat(" ", text);
    text = with_space;
  }
  if (!step.pattern.has_value()) {
    return RunFrom(index + 1, text, scratch, sink);
  }
  if (step.behavior != SplitBehavior::kIsolated) {
    return RunMerged(index, text, scratch, sink);
  }
  // Every part is a piece: no list of them is needed.
  size_t last = 0;
  DESCANT_RETURN_IF_ERROR(
      step.pattern->ForEachMatch(text, scratch, [&](size_t begin, size_t end) {
        DESCANT_RETURN_IF_ERROR(
            RunFrom(index + 1, text.substr(last, begin - last), scratch, sink));
        last = end;
        return RunFrom(index + 1, text.substr(begin, end - begin), scratch,
                       sink);
      }));
  return RunFrom(index + 1, text.substr(last), scratch, sink);
}

absl::Status PreTokenizer::RunMerged(size_t index, absl::string_view text,
                                     RegexScratch* scratch, Sink sink) const {
  std::vector<Part> parts;
  DESCANT_RETURN_IF_ERROR(CollectParts(steps_[index], text, scratch, &parts));
  ApplyBehavior(steps_[index].behavior, &parts);
  for (const Part& part : parts) {
    DESCANT_RETURN_IF_ERROR(
        RunFrom(index + 1, text.substr(part.begin, part.end - part.begin),
                scratch, sink));
  }
  return absl::OkStatus();
}

}  // namespace descant
