#include "runtime/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

char32_t FirstCharacter(absl::string_view text) {
  return NextUtf8(text).code_point;
}

bool EndsWithWord(absl::string_view text) {
  return !text.empty() &&
         IsWord(FirstCharacter(text.substr(LastCharacterStart(text))));
}

bool StartsWithWord(absl::string_view text) {
  return !text.empty() && IsWord(FirstCharacter(text));
}

// Where the white space at the end of text[floor..] begins.
size_t TrailingSpaceStart(absl::string_view text, size_t floor) {
  size_t end = text.size();
  while (end > floor) {
    const size_t start = LastCharacterStart(text.substr(0, end));
    if (!IsSpace(FirstCharacter(text.substr(start, end - start)))) break;
    end = start;
  }
  return end;
}

size_t LeadingSpaceLength(absl::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(length));
    if (!IsSpace(step.code_point)) break;
    length += step.length;
  }
  return length;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    // Some normalizers leave nothing of a token: it is never found.
    if (tokens_[i].content.empty()) continue;
    const uint32_t node = trie_.Insert(tokens_[i].content);
    first_bytes_[static_cast<unsigned char>(tokens_[i].content[0])] = true;
    // Of two with the same text the first one counts.
    if (trie_.value(node) == ByteTrie::kNone) {
      trie_.set_value(node, static_cast<int32_t>(i));
    }
  }
}

const AddedToken* AddedTokenMatcher::Match(absl::string_view text) const {
  if (!first_bytes_[static_cast<unsigned char>(text[0])]) return nullptr;
  const AddedToken* longest = nullptr;
  uint32_t node = ByteTrie::kRoot;
  for (const char c : text) {
    if (!trie_.Step(c, &node)) break;
    if (trie_.value(node) != ByteTrie::kNone) {
      longest = &tokens_[trie_.value(node)];
    }
  }
  return longest;
}

absl::Status AddedTokenMatcher::Split(absl::string_view text,
                                      bool parse_special, Sink sink) const {
  size_t emitted = 0;
  size_t position = tokens_.empty() ? text.size() : 0;
  while (position < text.size()) {
    const AddedToken* token = Match(text.substr(position));
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position;
    size_t end = position + token->content.size();
    // A match that is turned down is consumed all the same.
    position = end;
    if (token->special && !parse_special) continue;
    if (token->single_word && (EndsWithWord(text.substr(0, begin)) ||
                               StartsWithWord(text.substr(end)))) {
      continue;
    }
    if (token->lstrip) {
      // What an earlier match took stays with it.
      begin = std::max(emitted, TrailingSpaceStart(text.substr(0, begin),
                                                   std::min(emitted, begin)));
    }
    if (token->rstrip) end += LeadingSpaceLength(text.substr(end));
    if (emitted < begin) {
      DESCANT_RETURN_IF_ERROR(
          sink(text.substr(emitted, begin - emitted), std::nullopt));
    }
    DESCANT_RETURN_IF_ERROR(sink("", token->id));
    // An earlier token's rstrip may reach into this one.
    emitted = std::max(emitted, end);
  }
  if (emitted < text.size()) {
    return sink(text.substr(emitted), std::nullopt);
  }
  return absl::OkStatus();
}

}  // namespace descant
