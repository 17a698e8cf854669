// Text <-> token ids, equal to Hugging Face `tokenizers` (tokenizer.json; what
// is served: README.md) and to the same vocabulary stored in GGUF metadata.
//
// What a file asks for and this code does not do exactly is refused by name
// when it is loaded (UNIMPLEMENTED); malformed files are INVALID_ARGUMENT.
// `truncation` and `padding` of tokenizer.json are not applied: a text is
// always encoded whole.
#ifndef DESCANT_RUNTIME_TOKENIZER_TOKENIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace descant {

struct EncodeOptions {
  // Adds what the model's post-processor adds (for instance a leading BOS).
  bool add_special_tokens = true;
  // Recognises special tokens written out in the text ("<|im_end|>"). False:
  // they are ordinary text, so that a client can't forge them.
  bool parse_special = true;
};

// The tokenizer.* keys of a GGUF file. Filled by the model loader, because
// this folder doesn't read containers.
struct GgufVocabulary {
  std::vector<std::string> tokens;   // tokenizer.ggml.tokens, by id
  std::vector<int32_t> token_types;  // .token_type: 1 normal, 2 unknown,
                                     // 3 control, 4 user-defined, 5 unused,
                                     // 6 byte; empty = all normal
  std::vector<float> scores;         // .scores, by id ("llama")
  std::vector<std::string> merges;   // .merges: "left right", by rank ("gpt2")
  std::string model;                 // .model: "gpt2" (byte-level BPE) or
                                     // "llama" (SentencePiece's BPE)
  std::string pre;                   // .pre: the pre-tokenizer of "gpt2"
  int bos = -1;                      // -1 = none, also below
  int eos = -1;
  int pad = -1;
  int unk = -1;
  // None: as llama.cpp takes a missing key, for some a leading BOS.
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  bool add_space_prefix = true;  // "llama" only
  // Special tokens but "<s>", "<unk>" and "<|endoftext|>" take the white space
  // after them (Phi-3; GGUF has no key for it).
  bool specials_strip_right = false;
  std::string chat_template;  // tokenizer.chat_template; empty = none
};

class TokenizerParts;  // runtime/tokenizer/tokenizer_parts.h

// Immutable; every const method may be called from any thread.
class Tokenizer {
 public:
  // `tokenizer_config_json` may be empty; it is read for bos_token, eos_token,
  // pad_token, unk_token and chat_template.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromHuggingFace(
      absl::string_view tokenizer_json,
      absl::string_view tokenizer_config_json);

  // Unknown `model` or `pre`: UNIMPLEMENTED.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(
      GgufVocabulary vocabulary);

  explicit Tokenizer(std::unique_ptr<const TokenizerParts> parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Time O(n log n) in the text's length. INVALID_ARGUMENT: not UTF-8, a
  // pattern ran past its match limit on this text, or the text has what the
  // vocabulary lacks and there is no unknown token.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view utf8,
                                              EncodeOptions options = {}) const;

  // Always valid UTF-8: each maximal invalid byte sequence becomes one U+FFFD.
  // Ids outside the vocabulary contribute nothing.
  std::string Decode(absl::Span<const int32_t> ids,
                     bool skip_special_tokens) const;

  // The bytes that one token adds in the middle of a text, which need not be
  // valid UTF-8: a byte token's byte, a space where the decoder puts one. Of a
  // special token, its own spelling. (At the beginning of a text a decoder may
  // leave a leading space out: for text, use Decode or IncrementalDetokenizer.)
  // Empty for an unknown id. The view lives as long as the tokenizer.
  absl::string_view TokenBytes(int32_t id) const;
  std::string TokenText(int32_t id) const {
    return std::string(TokenBytes(id));
  }

  // The id of an added token (special or not) or of a vocabulary entry in the
  // file's own spelling.
  std::optional<int32_t> TokenId(absl::string_view token) const;

  // Most bytes of text that one token stands for. None: there is no bound,
  // because unknown words become one token, or white space is dropped.
  std::optional<size_t> max_bytes_per_token() const;

  // Ids lie in [0, vocab_size).
  int32_t vocab_size() const;
  // True for control tokens; false for ordinary and unknown ids.
  bool IsSpecial(int32_t id) const;

  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  std::optional<int32_t> unk_id() const;

  // The Jinja text for ChatTemplate::Parse; empty = none.
  absl::string_view chat_template() const;
  // The one for conversations with tools; empty = none of its own.
  absl::string_view tool_use_template() const;

  // For this folder.
  const TokenizerParts& parts() const { return *parts_; }

 private:
  const std::unique_ptr<const TokenizerParts> parts_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_TOKENIZER_H_
