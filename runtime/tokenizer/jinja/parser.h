// Template text to tree.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_PARSER_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/ast.h"

namespace descant::jinja {

// What jinja2 refuses, what this code does not render and what is beyond a
// limit: TemplateError (lexer.h).
absl::StatusOr<Ast> ParseTemplate(absl::string_view source);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_PARSER_H_
