// Bytes to UTF-8 as they come.
#ifndef DESCANT_RUNTIME_TOKENIZER_UTF8_STREAM_H_
#define DESCANT_RUNTIME_TOKENIZER_UTF8_STREAM_H_

#include <string>

#include "absl/strings/string_view.h"

namespace descant {

// Each maximal invalid sequence becomes one U+FFFD (Unicode 15, section 3.9,
// table 3-8), whatever the borders between the pieces. State: at most three
// bytes. Thread-compatible.
class Utf8Stream {
 public:
  // Appends to `*out` all characters that `bytes` completes.
  void Append(absl::string_view bytes, std::string* out);
  // Ends the text: an unfinished character becomes one U+FFFD.
  void Flush(std::string* out);

 private:
  std::string pending_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_UTF8_STREAM_H_
