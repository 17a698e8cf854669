// The interpreter's expressions but for calls.
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/interpreter.h"
#include "runtime/tokenizer/jinja/interpreter_scope.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/tests.h"

namespace descant::jinja {

absl::StatusOr<Value> Interpreter::Evaluate(const Expression& expression) {
  const Depth depth(this);
  DESCANT_RETURN_IF_ERROR(depth.Check());
  return EvaluateHere(expression);
}

absl::StatusOr<Value> Interpreter::EvaluateHere(const Expression& expression) {
  switch (expression.kind) {
    case Expression::kConstant:
      return expression.constant;
    case Expression::kName:
      return EvaluateName(expression);
    case Expression::kList:
    case Expression::kTuple:
      return EvaluateLiteral(expression);
    case Expression::kDict:
      return EvaluateDict(expression);
    case Expression::kSlice:
      return EvaluateSlice(expression);
    case Expression::kCall:
      return EvaluateCall(expression, nullptr);
    case Expression::kFilter:
      return EvaluateFilter(expression);
    case Expression::kTest:
      return EvaluateTest(expression);
    case Expression::kCompare:
      return EvaluateCompare(expression);
    case Expression::kConcatenate:
      return EvaluateConcatenate(expression);
    case Expression::kConditional:
      return EvaluateConditional(expression);
    default:
      break;
  }
  DESCANT_ASSIGN_OR_RETURN(Value first, Evaluate(*expression.operands[0]));
  switch (expression.kind) {
    case Expression::kAttribute:
      return AttributeOf(first, expression.name, expression.method);
    case Expression::kNot:
      return Value(!IsTrue(first));
    case Expression::kNegative:
      return Negate(first, true);
    case Expression::kPositive:
      return Negate(first, false);
    case Expression::kAnd:
      return IsTrue(first) ? Evaluate(*expression.operands[1]) : first;
    case Expression::kOr:
      return IsTrue(first) ? first : Evaluate(*expression.operands[1]);
    default:
      break;
  }
  DESCANT_ASSIGN_OR_RETURN(const Value second,
                           Evaluate(*expression.operands[1]));
  if (expression.kind == Expression::kSubscript) {
    return Subscript(work_, first, second);
  }
  return Apply(work_, expression.operators[0], first, second);
}

absl::StatusOr<Value> Interpreter::EvaluateName(const Expression& expression) {
  if (const Value* found = Find(expression.symbol)) return *found;
  Undefined undefined;
  undefined.why = Undefined::kName;
  undefined.text = expression.name;
  return Value(std::move(undefined));
}

absl::StatusOr<Value> Interpreter::EvaluateLiteral(
    const Expression& expression) {
  std::vector<Value> items;
  for (const ExpressionPtr& operand : expression.operands) {
    DESCANT_ASSIGN_OR_RETURN(Value item, Evaluate(*operand));
    items.push_back(std::move(item));
  }
  return MakeList(
      expression.kind == Expression::kList ? Flavour::kList : Flavour::kTuple,
      std::move(items));
}

absl::StatusOr<Value> Interpreter::EvaluateDict(const Expression& expression) {
  Dict dict;
  for (size_t i = 0; i < expression.operands.size(); i += 2) {
    DESCANT_ASSIGN_OR_RETURN(Value key, Evaluate(*expression.operands[i]));
    DESCANT_ASSIGN_OR_RETURN(Value value,
                             Evaluate(*expression.operands[i + 1]));
    if (!IsHashable(key)) {
      return RenderError(
          absl::StrCat("unhashable type: '", TypeName(key), "'"));
    }
    DESCANT_RETURN_IF_ERROR(ChargeLookup(work_, dict, key));
    dict.Set(std::move(key), std::move(value));
  }
  return MakeDict(std::move(dict));
}

absl::StatusOr<Value> Interpreter::EvaluateSlice(const Expression& expression) {
  DESCANT_ASSIGN_OR_RETURN(const Value object,
                           Evaluate(*expression.operands[0]));
  SliceBounds bounds;
  Value* const parts[] = {&bounds.start, &bounds.stop, &bounds.step};
  for (size_t i = 0; i < 3; ++i) {
    if (expression.operands[i + 1] == nullptr) continue;
    DESCANT_ASSIGN_OR_RETURN(*parts[i], Evaluate(*expression.operands[i + 1]));
  }
  return Slice(work_, object, bounds);
}

absl::StatusOr<Value> Interpreter::EvaluateCompare(
    const Expression& expression) {
  DESCANT_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.operands[0]));
  Value result(true);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    DESCANT_ASSIGN_OR_RETURN(Value right,
                             Evaluate(*expression.operands[i + 1]));
    DESCANT_ASSIGN_OR_RETURN(
        result, Apply(work_, expression.operators[i], left, right));
    if (!IsTrue(result)) break;
    left = std::move(right);
  }
  return result;
}

absl::StatusOr<Value> Interpreter::EvaluateConcatenate(
    const Expression& expression) {
  std::string text;
  for (const ExpressionPtr& operand : expression.operands) {
    DESCANT_ASSIGN_OR_RETURN(const Value value, Evaluate(*operand));
    DESCANT_RETURN_IF_ERROR(AppendText(work_, value, &text));
  }
  return MakeString(std::move(text));
}

absl::StatusOr<Value> Interpreter::EvaluateConditional(
    const Expression& expression) {
  DESCANT_ASSIGN_OR_RETURN(const Value condition,
                           Evaluate(*expression.operands[1]));
  if (IsTrue(condition)) return Evaluate(*expression.operands[0]);
  if (expression.operands[2] != nullptr) {
    return Evaluate(*expression.operands[2]);
  }
  return MakeUndefined(
      absl::StrCat("the inline if-expression on line ", expression.line,
                   " evaluated to false and no else section was defined."));
}

absl::StatusOr<Value> Interpreter::EvaluateFilter(
    const Expression& expression) {
  Value subject;
  if (expression.operands[0] == nullptr) {
    subject = std::move(block_text_);
  } else {
    DESCANT_ASSIGN_OR_RETURN(subject, Evaluate(*expression.operands[0]));
  }
  DESCANT_ASSIGN_OR_RETURN(const Arguments arguments,
                           EvaluateArguments(expression));
  return expression.filter->apply(work_, subject, arguments);
}

absl::StatusOr<Value> Interpreter::EvaluateTest(const Expression& expression) {
  DESCANT_ASSIGN_OR_RETURN(const Value subject,
                           Evaluate(*expression.operands[0]));
  DESCANT_ASSIGN_OR_RETURN(const Arguments arguments,
                           EvaluateArguments(expression));
  DESCANT_ASSIGN_OR_RETURN(const bool holds,
                           expression.test->holds(work_, subject, arguments));
  return Value(holds);
}

}  // namespace descant::jinja
