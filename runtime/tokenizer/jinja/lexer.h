// Cuts a template into tokens, as jinja2 does with trim_blocks and
// lstrip_blocks: white space control is done with here.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_LEXER_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant::jinja {

struct Token {
  enum Type : uint8_t {
    kData,
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Type type = kEnd;
  int line = 1;
  std::string text;  // of a string: unescaped
  int64_t integer = 0;
  double real = 0;
};

// A template that is refused, and where: FAILED_PRECONDITION, reason
// CHAT_TEMPLATE.
absl::Status TemplateError(absl::string_view what, int line);

// The last token is kEnd. REQUIRES: valid UTF-8.
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_LEXER_H_
