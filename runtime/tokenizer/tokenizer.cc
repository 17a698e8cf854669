#include "runtime/tokenizer/tokenizer.h"

#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/detokenizer.h"
#include "runtime/tokenizer/tokenizer_parts.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// NFC at most triples the bytes (Unicode Technical Report 15, section 9), and
// positions in a piece are int32.
constexpr size_t kMaxText = std::numeric_limits<int32_t>::max() / 4;

std::vector<AddedToken> WithNormalized(const std::vector<AddedToken>& tokens,
                                       bool normalized, bool nfc) {
  std::vector<AddedToken> chosen;
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized) continue;
    chosen.push_back(token);
    if (normalized && nfc) chosen.back().content = NormalizeNfc(token.content);
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
          if (!parts_.nfc) return RunNormalized(part);
          return RunNormalized(NormalizeNfc(part));
        });
  }

 private:
  absl::Status RunNormalized(absl::string_view text) {
    return parts_.normalized_matcher.Split(
        text, parse_special_,
        [&](absl::string_view part, std::optional<int32_t> id) {
          if (id.has_value()) return Push(*id);
          return parts_.pre_tokenizer.Split(
              part, &regex_scratch_, [&](absl::string_view piece) {
                parts_.bpe.Encode(piece, &bpe_scratch_, ids_);
                return absl::OkStatus();
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
  BpeScratch bpe_scratch_;
};

}  // namespace

void TokenTable::Set(int32_t id, absl::string_view token, bool special) {
  if (id >= size()) entries_.resize(id + 1);
  entries_[id] = {FromByteLevel(token), special};
}

absl::string_view TokenTable::bytes(int32_t id) const {
  if (id < 0 || id >= size()) return "";
  return entries_[id].bytes;
}

bool TokenTable::special(int32_t id) const {
  return id >= 0 && id < size() && entries_[id].special;
}

TokenizerParts::TokenizerParts(BpeModel bpe_model, PreTokenizer pre,
                               const std::vector<AddedToken>& added,
                               bool with_nfc)
    : raw_matcher(WithNormalized(added, false, with_nfc)),
      normalized_matcher(WithNormalized(added, true, with_nfc)),
      nfc(with_nfc),
      pre_tokenizer(std::move(pre)),
      bpe(std::move(bpe_model)) {
  for (const auto& [token, id] : bpe.vocabulary()) table.Set(id, token, false);
  for (const AddedToken& token : added) {
    // Hugging Face decodes to the form that it searched for.
    table.Set(
        token.id,
        token.normalized && nfc ? NormalizeNfc(token.content) : token.content,
        token.special);
    added_ids[token.content] = token.id;
  }
}

std::optional<int32_t> TokenizerParts::TokenId(absl::string_view token) const {
  if (const auto it = added_ids.find(token); it != added_ids.end()) {
    return it->second;
  }
  const auto& vocabulary = bpe.vocabulary();
  if (const auto it = vocabulary.find(token); it != vocabulary.end()) {
    return it->second;
  }
  return std::nullopt;
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
  Utf8Stream stream;
  for (const int32_t id : ids) {
    if (skip_special_tokens && parts_->table.special(id)) continue;
    stream.Append(parts_->table.bytes(id), &text);
  }
  stream.Flush(&text);
  return text;
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  return parts_->table.bytes(id);
}

std::optional<int32_t> Tokenizer::TokenId(absl::string_view token) const {
  return parts_->TokenId(token);
}

int32_t Tokenizer::vocab_size() const { return parts_->table.size(); }

bool Tokenizer::IsSpecial(int32_t id) const {
  return parts_->table.special(id);
}

std::optional<int32_t> Tokenizer::bos_id() const { return parts_->named.bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->named.eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return parts_->named.pad; }
std::optional<int32_t> Tokenizer::unk_id() const { return parts_->named.unk; }

absl::string_view Tokenizer::chat_template() const {
  return parts_->chat_template;
}

}  // namespace descant
