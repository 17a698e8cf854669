// Attributes and methods of values, as jinja2's immutable sandbox grants them.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_METHODS_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_METHODS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/jinja/callable.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

constexpr uint32_t KindBit(Kind kind) {
  return uint32_t{1} << static_cast<int>(kind);
}

struct Method {
  absl::string_view name;
  uint32_t kinds;    // that have it
  uint32_t mutates;  // of these, where it is forbidden
  // Null: Python has it, this code does not.
  absl::StatusOr<Value> (*call)(Work& work, const Value& self,
                                const Arguments& arguments);
};

// A method of any kind of value by its name; null: none has it.
const Method* FindMethod(absl::string_view name);
absl::Span<const Method> TextMethods();
absl::Span<const Method> ContainerMethods();

// environment.getattr: object.name. `method` is FindMethod of the name, or
// null to look. What isn't there is undefined; undefined itself is an error.
absl::StatusOr<Value> AttributeOf(const Value& object,
                                  const std::shared_ptr<const String>& name,
                                  const Method* method);

// dict.keys(), .values(), .items(), and `| items`.
absl::StatusOr<Value> DictView(Work& work, const Dict& dict, Flavour flavour);
// str.replace and str.center, within the budget.
absl::StatusOr<Value> ReplaceText(Work& work, absl::string_view text,
                                  absl::string_view from, absl::string_view to,
                                  int64_t limit);
absl::StatusOr<Value> CenterText(Work& work, absl::string_view text,
                                 int64_t width, absl::string_view fill);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_METHODS_H_
