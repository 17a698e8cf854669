// What a template can call, and what it is given.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_CALLABLE_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_CALLABLE_H_

#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

struct MacroBody;
struct Method;
struct Scope;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::shared_ptr<const String>, Value>> named;
};

// The functions every template sees.
enum class Function : uint8_t {
  kRange,
  kDict,
  kNamespace,
  kRaiseException,
  kStrftimeNow,
};

struct Callable {
  // Exactly one of the three.
  const MacroBody* macro = nullptr;
  const Method* method = nullptr;
  Function function = Function::kRange;

  Scope* scope = nullptr;  // of a macro: where it was defined
  Value self;              // of a method
};

// The arguments by `names`, null for those not given; TypeError for one too
// many, an unknown name, or fewer than `required`.
using BoundArguments = absl::InlinedVector<const Value*, 4>;
absl::StatusOr<BoundArguments> Bind(
    absl::string_view function, const Arguments& arguments,
    std::initializer_list<absl::string_view> names, size_t required);

// An argument of a certain kind; TypeError. Null: `missing`.
absl::StatusOr<int64_t> IntegerOr(const Value* argument, int64_t missing);
absl::StatusOr<bool> TruthOr(const Value* argument, bool missing);
// REQUIRES: not null. The view lives as long as the value.
absl::StatusOr<absl::string_view> TextOf(const Value* argument);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_CALLABLE_H_
