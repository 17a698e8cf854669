// Token ids to text, one token at a time, for streams.
#ifndef DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

// Bytes to UTF-8 as they come. Each maximal invalid sequence becomes one
// U+FFFD (Unicode 15, section 3.9, table 3-8), whatever the borders between
// the pieces. State: at most three bytes. Thread-compatible.
class Utf8Stream {
 public:
  // Appends to `*out` all characters that `bytes` completes.
  void Append(absl::string_view bytes, std::string* out);
  // Ends the text: an unfinished character becomes one U+FFFD.
  void Flush(std::string* out);

 private:
  std::string pending_;
};

// The deltas of one generation. After any number of Append() calls, their
// concatenation plus Flush() equals Tokenizer::Decode() of the same ids. A
// delta is always valid UTF-8; bytes of a character not yet complete are held
// back. O(bytes of the token) per call. Thread-compatible; `tokenizer`
// outlives it.
class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer* tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  std::string Append(int32_t id);
  // What was held back. Call it once, at the end; the object is as new after.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  Utf8Stream stream_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_
