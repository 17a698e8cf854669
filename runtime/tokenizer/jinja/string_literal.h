// Python's string escapes.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_STRING_LITERAL_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_STRING_LITERAL_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant::jinja {

// The text between the quotes of a literal, its escapes resolved as by
// Python's "unicode-escape" codec; unknown escapes stay. INVALID_ARGUMENT for
// broken ones, for surrogates and for \N{}.
absl::StatusOr<std::string> Unescape(absl::string_view literal);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_STRING_LITERAL_H_
