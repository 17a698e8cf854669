// Python's + - * / // % ** on template values. See operators.h for the errors.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_ARITHMETIC_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_ARITHMETIC_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/operators.h"

namespace descant::jinja {

// As Python's messages spell it.
absl::string_view Symbol(Operator op);

// A string, list or tuple: what + and * and an index take.
bool IsRepeatable(const Value& value);

// REQUIRES: `op` is one of kAdd to kPower.
absl::StatusOr<Value> Arithmetic(Work& work, Operator op, const Value& a,
                                 const Value& b);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_ARITHMETIC_H_
