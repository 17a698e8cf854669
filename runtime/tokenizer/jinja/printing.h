// Values as text: str(), repr(), json.dumps() and the % operator.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_PRINTING_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_PRINTING_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/value.h"
#include "runtime/tokenizer/jinja/work.h"

namespace descant::jinja {

// str(value); of an undefined one "".
absl::Status AppendText(Work& work, const Value& value, std::string* out);
absl::StatusOr<std::string> ToText(Work& work, const Value& value);
// repr(value).
absl::Status AppendRepr(Work& work, const Value& value, std::string* out);

// Parameters of json.dumps.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// TypeError for what JSON can't hold.
absl::StatusOr<std::string> ToJson(Work& work, const Value& value,
                                   const JsonStyle& style);

// format % value, for the conversions s, r, d, i, u, f, F, e, g, x, X, o, c.
absl::StatusOr<Value> PercentFormat(Work& work, absl::string_view format,
                                    const Value& value);

std::string HtmlEscape(absl::string_view text);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_PRINTING_H_
