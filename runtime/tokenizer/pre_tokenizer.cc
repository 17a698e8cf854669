#include "runtime/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// Texts are shorter than 2^32 bytes.
struct Part {
  uint32_t begin;
  uint32_t end;
  bool is_match;
};

using MatchSink = absl::FunctionRef<absl::Status(size_t begin, size_t end)>;

absl::Status ForEachMatch(const SplitStep& step, absl::string_view text,
                          RegexScratch* scratch, MatchSink match) {
  if (const Regex* regex = std::get_if<Regex>(&step.pattern)) {
    return regex->ForEachMatch(text, scratch, match);
  }
  const CharacterClass in_class = std::get<CharacterClass>(step.pattern);
  for (size_t position = 0; position < text.size();) {
    const Utf8Step next = NextUtf8(text.substr(position));
    if (in_class(next.code_point)) {
      DESCANT_RETURN_IF_ERROR(match(position, position + next.length));
    }
    position += next.length;
  }
  return absl::OkStatus();
}

// All of `text` as matches and the stretches between them.
absl::Status CollectParts(const SplitStep& step, absl::string_view text,
                          RegexScratch* scratch, std::vector<Part>* parts) {
  size_t last = 0;
  const auto add = [&](size_t begin, size_t end, bool is_match) {
    parts->push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end),
                      is_match != step.invert});
  };
  DESCANT_RETURN_IF_ERROR(
      ForEachMatch(step, text, scratch, [&](size_t begin, size_t end) {
        if (last != begin) add(last, begin, false);
        add(begin, end, true);
        last = end;
        return absl::OkStatus();
      }));
  if (last != text.size()) add(last, text.size(), false);
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

// One call of Split(). A piece carries its `origin`: how many of its first
// bytes stem from the first character of the whole input.
class PreTokenizer::Run {
 public:
  Run(const std::vector<PreTokenizerStep>& steps, RegexScratch* scratch,
      Sink sink)
      : steps_(steps), scratch_(scratch), sink_(sink) {}

  absl::Status From(size_t index, absl::string_view text, size_t origin) {
    if (text.empty()) return absl::OkStatus();
    if (index == steps_.size()) return sink_(text);
    return std::visit(
        [&](const auto& step) { return Apply(step, index, text, origin); },
        steps_[index]);
  }

 private:
  // The rest of the steps, for text[begin, end).
  absl::Status Next(size_t index, absl::string_view text, size_t begin,
                    size_t end, size_t origin) {
    return From(index + 1, text.substr(begin, end - begin),
                origin - std::min(origin, begin));
  }

  absl::Status Apply(const SplitStep& step, size_t index,
                     absl::string_view text, size_t origin) {
    if (step.behavior != SplitBehavior::kIsolated) {
      std::vector<Part> parts;
      DESCANT_RETURN_IF_ERROR(CollectParts(step, text, scratch_, &parts));
      ApplyBehavior(step.behavior, &parts);
      for (const Part& part : parts) {
        DESCANT_RETURN_IF_ERROR(
            Next(index, text, part.begin, part.end, origin));
      }
      return absl::OkStatus();
    }
    // Every part is a piece: no list of them is needed.
    size_t last = 0;
    DESCANT_RETURN_IF_ERROR(
        ForEachMatch(step, text, scratch_, [&](size_t begin, size_t end) {
          DESCANT_RETURN_IF_ERROR(Next(index, text, last, begin, origin));
          last = end;
          return Next(index, text, begin, end, origin);
        }));
    return Next(index, text, last, text.size(), origin);
  }

  absl::Status Apply(const ByteLevelStep& step, size_t index,
                     absl::string_view text, size_t origin) {
    std::string with_space;
    if (step.add_prefix_space && !absl::StartsWith(text, " ")) {
      with_space = absl::StrCat(" ", text);
      text = with_space;
      if (origin > 0) ++origin;
    }
    size_t last = 0;
    if (step.pattern.has_value()) {
      DESCANT_RETURN_IF_ERROR(step.pattern->ForEachMatch(
          text, scratch_, [&](size_t begin, size_t end) {
            DESCANT_RETURN_IF_ERROR(
                Spell(step, index, text, last, begin, origin));
            last = end;
            return Spell(step, index, text, begin, end, origin);
          }));
    }
    return Spell(step, index, text, last, text.size(), origin);
  }

  absl::Status Spell(const ByteLevelStep& step, size_t index,
                     absl::string_view text, size_t begin, size_t end,
                     size_t origin) {
    if (!step.spell) return Next(index, text, begin, end, origin);
    const std::string spelled = ToByteLevel(text.substr(begin, end - begin));
    // Only whether it is zero counts from here on.
    return From(index + 1, spelled, origin > begin ? 1 : 0);
  }

  absl::Status Apply(const MetaspaceStep& step, size_t index,
                     absl::string_view text, size_t origin) {
    std::string spaced = absl::StrReplaceAll(text, {{" ", step.replacement}});
    // A space takes as many bytes as it is replaced by.
    if (origin > 0 && text[0] == ' ') origin = step.replacement.size();
    const bool wanted =
        step.prepend == MetaspaceStep::Prepend::kAlways ||
        (step.prepend == MetaspaceStep::Prepend::kFirst && origin > 0);
    if (wanted && !absl::StartsWith(spaced, step.replacement)) {
      spaced.insert(0, step.replacement);
      if (origin > 0) origin += step.replacement.size();
    }
    size_t begin = 0;
    if (step.split) {
      for (size_t next = spaced.find(step.replacement, 1);
           next != std::string::npos;
           next = spaced.find(step.replacement, next + 1)) {
        DESCANT_RETURN_IF_ERROR(Next(index, spaced, begin, next, origin));
        begin = next;
      }
    }
    return Next(index, spaced, begin, spaced.size(), origin);
  }

  const std::vector<PreTokenizerStep>& steps_;
  RegexScratch* const scratch_;
  const Sink sink_;
};

PreTokenizer::PreTokenizer(std::vector<PreTokenizerStep> steps)
    : steps_(std::move(steps)) {}

absl::Status PreTokenizer::Split(absl::string_view text, size_t origin_bytes,
                                 RegexScratch* scratch, Sink sink) const {
  return Run(steps_, scratch, sink).From(0, text, origin_bytes);
}

}  // namespace descant
