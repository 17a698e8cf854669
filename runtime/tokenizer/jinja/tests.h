// jinja2's built-in tests: `value is name(arguments)`.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_TESTS_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_TESTS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/callable.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

struct Test {
  absl::string_view name;
  absl::StatusOr<bool> (*holds)(Work& work, const Value& subject,
                                const Arguments& arguments);
};

// Null: not known.
const Test* FindTest(absl::string_view name);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_TESTS_H_
