// Token ids to text, one token at a time, for streams.
#ifndef DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8_stream.h"

namespace descant {

// The deltas of one generation. After any number of Append() calls, their
// concatenation plus Flush() equals Tokenizer::Decode() of the same ids. A
// delta is always valid UTF-8; what later tokens may still change
// (DecoderStream) is held back. O(bytes of the token) per call. Copyable;
// thread-compatible; `tokenizer` outlives it.
class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer* tokenizer, bool skip_special_tokens);

  std::string Append(int32_t id);
  // What was held back. Call it once, at the end; the object is as new after.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  DecoderStream stream_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_DETOKENIZER_H_
