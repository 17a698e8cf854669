#include "runtime/tokenizer/jinja/callable.h"

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/jinja/operators.h"

namespace descant::jinja {

absl::StatusOr<BoundArguments> Bind(
    absl::string_view function, const Arguments& arguments,
    std::initializer_list<absl::string_view> names, size_t required) {
  if (arguments.positional.size() > names.size()) {
    return RenderError(absl::StrCat(function, "() takes at most ", names.size(),
                                    " arguments (", arguments.positional.size(),
                                    " given)"));
  }
  BoundArguments bound(names.size(), nullptr);
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    size_t at = 0;
    for (const absl::string_view known : names) {
      if (known == name->text) break;
      ++at;
    }
    if (at == names.size()) {
      return RenderError(absl::StrCat(function,
                                      "() got an unexpected keyword argument '",
                                      name->text, "'"));
    }
    if (bound[at] != nullptr) {
      return RenderError(absl::StrCat(
          function, "() got multiple values for argument '", name->text, "'"));
    }
    bound[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) {
      return RenderError(absl::StrCat(
          function, "() missing required argument '", names.begin()[i], "'"));
    }
  }
  return bound;
}

absl::StatusOr<int64_t> IntegerOr(const Value* argument, int64_t missing) {
  if (argument == nullptr) return missing;
  if (const auto integer = argument->as_integer(); integer.has_value()) {
    return *integer;
  }
  return RenderError(absl::StrCat("'", TypeName(*argument),
                                  "' object cannot be interpreted as an "
                                  "integer"));
}

absl::StatusOr<bool> TruthOr(const Value* argument, bool missing) {
  return argument == nullptr ? missing : IsTrue(*argument);
}

absl::StatusOr<absl::string_view> TextOf(const Value* argument) {
  if (argument->is_string()) return absl::string_view(argument->text());
  if (argument->is_undefined()) return UndefinedError(argument->undefined());
  return RenderError(
      absl::StrCat("expected a str, not '", TypeName(*argument), "'"));
}

}  // namespace descant::jinja
