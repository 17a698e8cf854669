// Python's operators on template values. Errors are those of work.h, with
// Python's wording where it has one.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_OPERATORS_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_OPERATORS_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/jinja/value.h"
#include "runtime/tokenizer/jinja/work.h"

namespace descant::jinja {

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

// The type's name in Python's messages: "str", "dict", "NoneType".
absl::string_view TypeName(const Value& value);
// The error of an undefined value that is used.
absl::Status UndefinedError(const Undefined& undefined);

bool IsTrue(const Value& value);
// ==; lists and dicts by their elements.
bool AreEqual(const Value& a, const Value& b);
// Of Dict::Find and Dict::Set.
absl::Status ChargeLookup(Work& work, const Dict& dict, const Value& key);
// Whether a < b; TypeError where Python has no order.
absl::StatusOr<bool> IsLess(Work& work, const Value& a, const Value& b);
absl::StatusOr<bool> Contains(Work& work, const Value& container,
                              const Value& item);

// Arithmetic and comparison.
absl::StatusOr<Value> Apply(Work& work, Operator op, const Value& a,
                            const Value& b);
absl::StatusOr<Value> Negate(const Value& value, bool negative);

// environment.getitem: object[key], or an attribute where there is no key.
absl::StatusOr<Value> Subscript(Work& work, const Value& object,
                                const Value& key);
// object[start:stop:step]; none and undefined-as-absent are given as nullopt.
struct SliceBounds {
  Value start = None();
  Value stop = None();
  Value step = None();
};
absl::StatusOr<Value> Slice(Work& work, const Value& object,
                            const SliceBounds& bounds);

// len(); TypeError where Python has none.
absl::StatusOr<int64_t> LengthOf(Work& work, const Value& value);
// list(value): of a dict its keys, of a string its characters. A generator is
// consumed. Costs a step an element.
absl::StatusOr<std::vector<Value>> Elements(Work& work, const Value& value);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_OPERATORS_H_
