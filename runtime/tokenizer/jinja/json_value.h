// JSON texts of clients as values.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_JSON_VALUE_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_JSON_VALUE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

// As Python's json.loads; of equal keys the last value, at the first one's
// place. Time and memory O(size). INVALID_ARGUMENT: not one JSON value, not
// UTF-8, nested deeper than kMaxValueDepth, an integer beyond 64 bits.
absl::StatusOr<Value> ParseJson(absl::string_view text);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_JSON_VALUE_H_
