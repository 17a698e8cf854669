#include "runtime/tokenizer/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer_parts.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// Positions in a piece are int32, and a byte-level spelling has two bytes for
// each, a metaspace three.
constexpr size_t kMaxText = std::numeric_limits<int32_t>::max() / 4;

// Those marked `normalized`, or the others.
std::vector<AddedToken> WithNormalized(const std::vector<AddedToken>& tokens,
                                       bool normalized) {
  std::vector<AddedToken> chosen;
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) chosen.push_back(token);
  }
  return chosen;
}

// One call of Encode().
class Encoder {
 public:
  Encoder(const TokenizerParts& parts, bool parse_special,
          std::vector<int32_t>* ids)
      : parts_(parts), parse_special_(parse_special), ids_(ids) {}

  absl::Status Run(absl::string_view text) {
    return parts_.raw_matcher.Split(
        text, parse_special_,
        [&](absl::string_view part, std::optional<int32_t> id) {
          if (id.has_value()) return Push(*id);
          const bool at_origin = part.data() == text.data();
          const size_t origin = at_origin ? NextUtf8(part).length : 0;
          if (parts_.normalizer.empty()) return RunNormalized(part, origin);
          return Normalize(part, origin);
        });
  }

 private:
  absl::Status Normalize(absl::string_view part, size_t origin) {
    NormalizedText normalized{std::string(part), origin};
    DESCANT_RETURN_IF_ERROR(
        parts_.normalizer.Run(&normalized, &regex_scratch_));
    if (normalized.text.size() > kMaxText) {
      return absl::InvalidArgumentError("the text is too long");
    }
    return RunNormalized(normalized.text, normalized.origin_bytes);
  }

  absl::Status RunNormalized(absl::string_view text, size_t origin) {
    return parts_.normalized_matcher.Split(
        text, parse_special_,
        [&](absl::string_view part, std::optional<int32_t> id) {
          if (id.has_value()) return Push(*id);
          const auto begin = static_cast<size_t>(part.data() - text.data());
          return parts_.pre_tokenizer.Split(
              part, origin - std::min(origin, begin), &regex_scratch_,
              [&](absl::string_view piece) {
                return parts_.model->Encode(piece, &model_scratch_, ids_);
              });
        });
  }

  absl::Status Push(int32_t id) {
    ids_->push_back(id);
    return absl::OkStatus();
  }

  const TokenizerParts& parts_;
  const bool parse_special_;
  std::vector<int32_t>* ids_;
  RegexScratch regex_scratch_;
  ModelScratch model_scratch_;
};

}  // namespace

void TokenTable::Set(int32_t id, Entry entry) {
  if (id >= size()) entries_.resize(id + 1);
  entry.present = true;
  entries_[id] = std::move(entry);
}

const TokenTable::Entry* TokenTable::Find(int32_t id) const {
  if (id < 0 || id >= size() || !entries_[id].present) return nullptr;
  return &entries_[id];
}

TokenizerParts::TokenizerParts(Components components)
    : raw_matcher(WithNormalized(components.added, false)),
      normalized_matcher(WithNormalized(components.added, true)),
      normalizer(std::move(components.normalizer)),
      pre_tokenizer(std::move(components.pre_tokenizer)),
      model(std::move(components.model)),
      decoder(std::move(components.decoder)) {}

absl::StatusOr<std::unique_ptr<TokenizerParts>> TokenizerParts::Create(
    Components components) {
  const std::vector<AddedToken> added = components.added;
  RegexScratch scratch;
  // They are searched for in normalized text.
  for (AddedToken& token : components.added) {
    if (!token.normalized) continue;
    NormalizedText normalized{token.content, 0};
    DESCANT_RETURN_IF_ERROR(components.normalizer.Run(&normalized, &scratch));
    token.content = std::move(normalized.text);
  }
  auto parts = std::unique_ptr<TokenizerParts>(
      new TokenizerParts(std::move(components)));
  DESCANT_RETURN_IF_ERROR(parts->FillTable(added));
  return parts;
}

absl::Status TokenizerParts::FillTable(const std::vector<AddedToken>& added) {
  RegexScratch scratch;
  absl::flat_hash_set<std::string> specials;
  for (const AddedToken& token : added) {
    added_ids.insert_or_assign(token.content, token.id);
    if (token.special) specials.insert(token.content);
  }
  absl::Status status;
  const auto set = [&](absl::string_view text, int32_t id,
                       const AddedToken* token) {
    auto prepared = decoder.Prepare(text, &scratch);
    if (!prepared.ok()) {
      status.Update(prepared.status());
      return;
    }
    TokenTable::Entry entry;
    entry.prepared = *std::move(prepared);
    entry.special = token != nullptr && token->special;
    entry.bytes =
        entry.special ? token->content : decoder.Inner(entry.prepared);
    entry.skipped = specials.contains(text);
    table.Set(id, std::move(entry));
  };
  model->ForEachToken(
      [&](absl::string_view text, int32_t id) { set(text, id, nullptr); });
  for (const AddedToken& token : added) {
    // Hugging Face decodes to the form that it searches for.
    NormalizedText text{token.content, 0};
    if (token.normalized) {
      DESCANT_RETURN_IF_ERROR(normalizer.Run(&text, &scratch));
    }
    set(text.text, token.id, &token);
  }
  return status;
}

std::optional<int32_t> TokenizerParts::TokenId(absl::string_view token) const {
  if (const auto it = added_ids.find(token); it != added_ids.end()) {
    return it->second;
  }
  return model->Find(token);
}

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts)
    : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(
    absl::string_view utf8, EncodeOptions options) const {
  if (utf8.size() > kMaxText) {
    return absl::InvalidArgumentError("the text is too long");
  }
  if (!IsValidUtf8(utf8)) {
    return absl::InvalidArgumentError("the text is not valid UTF-8");
  }
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = parts_->prefix;
  DESCANT_RETURN_IF_ERROR(
      Encoder(*parts_, options.parse_special, &ids).Run(utf8));
  if (options.add_special_tokens) {
    ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
  }
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids,
                              bool skip_special_tokens) const {
  std::string text;
  DecoderStream stream(&parts_->decoder);
  for (const int32_t id : ids) {
    const TokenTable::Entry* token = parts_->table.Find(id);
    if (token == nullptr || (skip_special_tokens && token->skipped)) continue;
    stream.Append(token->prepared, &text);
  }
  stream.Flush(&text);
  return text;
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  const TokenTable::Entry* token = parts_->table.Find(id);
  return token == nullptr ? absl::string_view() : token->bytes;
}

std::optional<size_t> Tokenizer::max_bytes_per_token() const {
  auto longest = parts_->model->longest_token();
  if (!longest.has_value() || parts_->drops_text) return std::nullopt;
  for (const auto& [content, id] : parts_->added_ids) {
    longest = std::max(*longest, content.size());
  }
  return longest;
}

std::optional<int32_t> Tokenizer::TokenId(absl::string_view token) const {
  return parts_->TokenId(token);
}

int32_t Tokenizer::vocab_size() const { return parts_->table.size(); }

bool Tokenizer::IsSpecial(int32_t id) const {
  const TokenTable::Entry* token = parts_->table.Find(id);
  return token != nullptr && token->special;
}

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->named.bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->named.eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return parts_->named.pad; }
std::optional<int32_t> Tokenizer::unk_id() const { return parts_->named.unk; }

absl::string_view Tokenizer::chat_template() const {
  return parts_->chat_template;
}

absl::string_view Tokenizer::tool_use_template() const {
  return parts_->tool_use_template;
}

}  // namespace descant
