// The interpreter's calls: macros, methods and the functions it offers.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/interpreter.h"
#include "runtime/tokenizer/jinja/interpreter_scope.h"
#include "runtime/tokenizer/jinja/limits.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"

namespace descant::jinja {

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(
    const Expression& expression) {
  Arguments arguments;
  for (size_t i = 1; i < expression.operands.size(); ++i) {
    DESCANT_ASSIGN_OR_RETURN(Value value, Evaluate(*expression.operands[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, operand] : expression.named) {
    DESCANT_ASSIGN_OR_RETURN(Value value, Evaluate(*operand));
    arguments.named.emplace_back(name, std::move(value));
  }
  if (expression.star != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(const Value more, Evaluate(*expression.star));
    DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work_, more));
    arguments.positional.insert(arguments.positional.end(), items.begin(),
                                items.end());
  }
  if (expression.double_star != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(const Value more,
                             Evaluate(*expression.double_star));
    if (!more.is(Kind::kDict)) {
      return RenderError("argument after ** must be a mapping");
    }
    DESCANT_RETURN_IF_ERROR(work_.Steps(WeightOf(more)));
    for (const auto& [key, value] : more.dict().items()) {
      if (!key.is_string()) return RenderError("keywords must be strings");
      for (const auto& [name, unused] : arguments.named) {
        if (name->text == key.text()) {
          return RenderError(absl::StrCat(
              "got multiple values for keyword argument '", key.text(), "'"));
        }
      }
      arguments.named.emplace_back(key.string(), value);
    }
    const auto count = static_cast<int64_t>(arguments.named.size());
    DESCANT_RETURN_IF_ERROR(work_.Steps(count * count / 8));
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::EvaluateCall(const Expression& expression,
                                                const Value* caller) {
  DESCANT_ASSIGN_OR_RETURN(const Value function,
                           Evaluate(*expression.operands[0]));
  DESCANT_ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(expression));
  if (caller != nullptr) arguments.named.emplace_back(caller_name_, *caller);
  return Call(function, std::move(arguments));
}

absl::StatusOr<Value> Interpreter::Call(const Value& function,
                                        Arguments arguments) {
  if (function.is_undefined()) return UndefinedError(function.undefined());
  if (!function.is(Kind::kCallable)) {
    return RenderError(
        absl::StrCat("'", TypeName(function), "' object is not callable"));
  }
  const Callable& callable = function.callable();
  if (callable.macro != nullptr) {
    return CallMacro(callable, std::move(arguments));
  }
  if (callable.method == nullptr) {
    return CallFunction(callable.function, arguments);
  }
  if (callable.method->call == nullptr) {
    return NotServed(absl::StrCat("the method '", callable.method->name, "'"));
  }
  return callable.method->call(work_, callable.self, arguments);
}

absl::StatusOr<Value> Interpreter::CallMacro(const Callable& macro,
                                             Arguments arguments) {
  const InnerScope scope(this, macro.scope);
  DESCANT_RETURN_IF_ERROR(BindParameters(*macro.macro, &arguments));
  std::string text;
  DESCANT_RETURN_IF_ERROR(Run(macro.macro->body, &text).status());
  return MakeString(std::move(text));
}

// In the macro's scope, which is the present one.
absl::Status Interpreter::BindParameters(const MacroBody& macro,
                                         Arguments* arguments) {
  const auto take = [arguments](absl::string_view name) {
    std::optional<Value> taken;
    auto& named = arguments->named;
    for (size_t i = 0; i < named.size(); ++i) {
      if (named[i].first->text != name) continue;
      taken = std::move(named[i].second);
      named.erase(named.begin() + static_cast<ptrdiff_t>(i));
      break;
    }
    return taken;
  };
  const auto& parameters = macro.parameters;
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::optional<Value> value;
    if (i < arguments->positional.size()) {
      value = arguments->positional[i];
    } else {
      value = take(parameters[i].name->text);
    }
    if (!value.has_value()) {
      if (parameters[i].missing != nullptr) {
        DESCANT_ASSIGN_OR_RETURN(value, Evaluate(*parameters[i].missing));
      } else {
        value = MakeUndefined(absl::StrCat(
            "parameter '", parameters[i].name->text, "' was not provided"));
      }
    }
    Set(parameters[i].symbol, *std::move(value));
  }
  if (macro.uses_caller) {
    std::optional<Value> caller = take("caller");
    Set(macro.caller, caller.has_value() && !caller->is_none()
                          ? *std::move(caller)
                          : MakeUndefined("No caller defined"));
  }
  if (macro.uses_kwargs) {
    Dict rest;
    for (const auto& [name, value] : arguments->named) rest.Set(name, value);
    DESCANT_ASSIGN_OR_RETURN(Value dict, MakeDict(std::move(rest)));
    Set(macro.kwargs, std::move(dict));
  } else if (!arguments->named.empty()) {
    return RenderError(absl::StrCat("macro '", macro.name,
                                    "' takes no keyword argument '",
                                    arguments->named[0].first->text, "'"));
  }
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = parameters.size(); i < arguments->positional.size(); ++i) {
      rest.push_back(std::move(arguments->positional[i]));
    }
    DESCANT_ASSIGN_OR_RETURN(Value tuple,
                             MakeList(Flavour::kTuple, std::move(rest)));
    Set(macro.varargs, std::move(tuple));
  } else if (arguments->positional.size() > parameters.size()) {
    return RenderError(absl::StrCat("macro '", macro.name,
                                    "' takes not more than ", parameters.size(),
                                    " argument(s)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Interpreter::CallFunction(Function function,
                                                const Arguments& arguments) {
  switch (function) {
    case Function::kRange:
      return CallRange(arguments);
    case Function::kDict:
      return CallDict(arguments);
    case Function::kNamespace:
      return CallNamespace(arguments);
    case Function::kRaiseException: {
      DESCANT_ASSIGN_OR_RETURN(
          const auto bound, Bind("raise_exception", arguments, {"message"}, 1));
      DESCANT_ASSIGN_OR_RETURN(const std::string message,
                               ToText(work_, *bound[0]));
      return RenderError(message);
    }
    case Function::kStrftimeNow:
      break;
  }
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("strftime_now", arguments, {"format"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view format, TextOf(bound[0]));
  DESCANT_RETURN_IF_ERROR(work_.Bytes(64 * format.size()));
  return MakeString((*time_)(format));
}

absl::StatusOr<Value> Interpreter::CallDict(const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) {
    return RenderError("dict expected at most 1 argument");
  }
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    DESCANT_RETURN_IF_ERROR(work_.Steps(WeightOf(source)));
    if (source.is(Kind::kDict)) {
      dict = source.dict();
    } else {
      DESCANT_ASSIGN_OR_RETURN(const auto pairs, Elements(work_, source));
      for (const Value& pair : pairs) {
        DESCANT_ASSIGN_OR_RETURN(auto parts, Elements(work_, pair));
        if (parts.size() != 2 || !IsHashable(parts[0])) {
          return RenderError("dict() needs pairs of a key and a value");
        }
        DESCANT_RETURN_IF_ERROR(ChargeLookup(work_, dict, parts[0]));
        dict.Set(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict.Set(name, value);
  return MakeDict(std::move(dict));
}

absl::StatusOr<Value> Interpreter::CallNamespace(const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const Value dict, CallDict(arguments));
  auto name_space = std::make_shared<Namespace>();
  const auto count = static_cast<int64_t>(dict.dict().items().size());
  DESCANT_RETURN_IF_ERROR(work_.Steps(8 + count * count / 8));
  for (const auto& [key, value] : dict.dict().items()) {
    if (!key.is_string()) return RenderError("keywords must be strings");
    name_space->Set(key.text(), value);
  }
  namespaces_.push_back(name_space);
  return Value(std::move(name_space));
}

absl::StatusOr<Value> Interpreter::CallRange(const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("range", arguments, {"start", "stop", "step"}, 1));
  DESCANT_ASSIGN_OR_RETURN(int64_t start, IntegerOr(bound[0], 0));
  DESCANT_ASSIGN_OR_RETURN(int64_t stop, IntegerOr(bound[1], 0));
  DESCANT_ASSIGN_OR_RETURN(const int64_t step, IntegerOr(bound[2], 1));
  if (bound[1] == nullptr) stop = std::exchange(start, 0);
  if (step == 0) return RenderError("range() arg 3 must not be zero");
  constexpr int64_t kHuge = int64_t{1} << 60;
  if (std::max({std::abs(start), std::abs(stop), std::abs(step)}) > kHuge ||
      start == INT64_MIN || stop == INT64_MIN || step == INT64_MIN) {
    return NotServed("range() with such bounds");
  }
  const int64_t span = step > 0 ? stop - start : start - stop;
  const int64_t count = span <= 0 ? 0 : (span - 1) / std::abs(step) + 1;
  if (count > kMaxRange) {
    return RenderError(
        absl::StrCat("Range too big. The sandbox blocks ranges "
                     "larger than MAX_RANGE (",
                     kMaxRange, ")."));
  }
  DESCANT_RETURN_IF_ERROR(work_.Steps(count));
  std::vector<Value> items;
  for (int64_t i = 0; i < count; ++i) items.push_back(Value(start + i * step));
  return MakeList(Flavour::kRange, std::move(items));
}

}  // namespace descant::jinja
