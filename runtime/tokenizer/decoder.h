// Tokens to text.
#ifndef DESCANT_RUNTIME_TOKENIZER_DECODER_H_
#define DESCANT_RUNTIME_TOKENIZER_DECODER_H_

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/utf8_stream.h"

namespace descant {

// The steps, named and behaving as in Hugging Face `tokenizers`. A step maps a
// list of tokens to a list of tokens; the last list, joined, is the text.

// Byte-level spelling to bytes; all tokens become one.
struct ByteLevelDecode {};
// Runs of "<0x00>" to "<0xFF>" become the character they spell; all of a run
// that isn't UTF-8 becomes one U+FFFD a byte.
struct ByteFallbackDecode {};
// All tokens become one.
struct FuseDecode {};
// `replacement` becomes a space, in the first token nothing if `drop_in_first`.
struct MetaspaceDecode {
  std::string replacement = "\xe2\x96\x81";  // U+2581; one character
  bool drop_in_first = true;
};
// A space before each token but the first, unless it begins with `prefix`,
// which is dropped. `cleanup`: no space before punctuation and English
// contractions.
struct WordPieceDecode {
  std::string prefix = "##";
  bool cleanup = true;
};
// Up to `start` and `stop` times `content` (one character) off the ends of each
// token.
struct StripDecode {
  std::string content;
  size_t start = 0;
  size_t stop = 0;
};
struct ReplaceDecode {
  Regex pattern;  // Regex::Literal for a string
  std::string content;
};
// `suffix` becomes a space, in the last token nothing.
struct BpeDecode {
  std::string suffix = "</w>";
};

// A space before each token but the first: what HF does without a decoder.
struct SpaceDecode {};

using DecoderStep =
    std::variant<ByteLevelDecode, ByteFallbackDecode, FuseDecode,
                 MetaspaceDecode, WordPieceDecode, StripDecode, ReplaceDecode,
                 BpeDecode, SpaceDecode>;

// Immutable; thread-safe. The steps fall in two: those at the front that look
// at one token only run once for each token of the vocabulary (Prepare); the
// rest runs on the stream of tokens (DecoderStream).
class Decoder {
 public:
  // UNIMPLEMENTED, naming the step: steps in an order that can't be computed
  // token by token (for instance Replace after Fuse); no known file does that.
  static absl::StatusOr<Decoder> Create(std::vector<DecoderStep> steps);
  static Decoder ByteLevel();

  Decoder(Decoder&&) = default;
  Decoder& operator=(Decoder&&) = default;

  // What DecoderStream takes, from the file's spelling. Need not be UTF-8.
  // INVALID_ARGUMENT: a pattern ran past its match limit.
  absl::StatusOr<std::string> Prepare(absl::string_view token,
                                      RegexScratch* scratch) const;
  // The bytes that a prepared token adds in the middle of a text.
  std::string Inner(absl::string_view prepared) const;

 private:
  friend class DecoderStream;
  friend struct DecoderFeed;

  struct Streamed {
    DecoderStep step;
    // Its input is parts of one token.
    bool fused;
  };

  Decoder() = default;
  absl::Status Add(DecoderStep step);

  std::vector<DecoderStep> prepared_;  // at the front
  std::vector<Streamed> streamed_;     // the rest
  bool fused_ = false;                 // the tokens are one from here on
  // Prepare() undoes the byte-level spelling; the first streamed step is
  // ByteLevelDecode and only joins.
  bool bytes_prepared_ = false;
};

// One text. After any number of Append() calls their output plus Flush() is
// what the decoder makes of these tokens in one go, invalid UTF-8 replaced as
// Utf8Stream does. Holds back what later tokens may change: an unfinished
// character, a run of byte tokens, trailing characters that may be stripped,
// the last token (BpeDecode). Copyable; thread-compatible; `decoder` outlives
// it.
class DecoderStream {
 public:
  explicit DecoderStream(const Decoder* decoder);

  void Append(absl::string_view prepared, std::string* out);
  // Ends the text; the object is as new after.
  void Flush(std::string* out);

 private:
  friend struct DecoderFeed;

  struct StepState {
    bool first = true;     // no token came yet
    size_t stripped = 0;   // StripDecode: this many at the start
    bool started = false;  // StripDecode: something else came
    std::string held;
    Utf8Stream utf8;
  };

  // One token, or, after a step that fuses, a part of the only one.
  void Feed(size_t step, absl::string_view token, std::string* out);
  void End(size_t step, std::string* out);

  const Decoder* decoder_;
  std::vector<StepState> states_;
  Utf8Stream utf8_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_DECODER_H_
