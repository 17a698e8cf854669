#include "runtime/tokenizer/jinja/tests.h"

#include <algorithm>
#include <iterator>

#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

// A test of the value alone.
template <bool (*holds)(const Value&)>
absl::StatusOr<bool> Alone(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("test", arguments, {}, 0).status());
  return holds(subject);
}

bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsBoolean(const Value& value) { return value.is(Kind::kBool); }
bool IsTheTrue(const Value& value) {
  return value.is(Kind::kBool) && value.boolean();
}
bool IsTheFalse(const Value& value) {
  return value.is(Kind::kBool) && !value.boolean();
}
bool IsInteger(const Value& value) { return value.is(Kind::kInt); }
bool IsFloat(const Value& value) { return value.is(Kind::kFloat); }
bool IsNumber(const Value& value) { return value.as_real().has_value(); }
bool IsString(const Value& value) { return value.is_string(); }
bool IsMapping(const Value& value) { return value.is(Kind::kDict); }
bool IsIterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is(Kind::kList) ||
         value.is(Kind::kDict) || value.is(Kind::kLoop);
}
bool IsSequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is(Kind::kDict) ||
         value.is_list(Flavour::kList) || value.is_list(Flavour::kTuple) ||
         value.is_list(Flavour::kRange);
}
bool IsCallable(const Value& value) {
  return value.is_undefined() || value.is(Kind::kCallable) ||
         value.is(Kind::kLoop);
}
bool IsEscaped(const Value& value) {
  return value.is_string() && value.string()->markup;
}

// Whether all letters have one case, and there is one.
template <bool (*is_wanted)(char32_t), bool (*is_unwanted)(char32_t)>
absl::StatusOr<bool> HasCase(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("test", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ToText(work, subject));
  absl::string_view rest = text;
  bool found = false;
  while (!rest.empty()) {
    const char32_t c = TakeCharacter(&rest);
    if (is_unwanted(c)) return false;
    found |= is_wanted(c);
  }
  return found;
}

template <Operator op>
absl::StatusOr<bool> Comparison(Work& work, const Value& subject,
                                const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound, Bind("test", arguments, {"b"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const Value result,
                           Apply(work, op, subject, *bound[0]));
  return IsTrue(result);
}

absl::StatusOr<bool> SameAs(Work& work, const Value& subject,
                            const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("sameas", arguments, {"other"}, 1));
  if (subject.kind() != bound[0]->kind()) return false;
  if (subject.identity() != nullptr) {
    return subject.identity() == bound[0]->identity();
  }
  return AreEqual(subject, *bound[0]);
}

absl::StatusOr<bool> DivisibleBy(Work& work, const Value& subject,
                                 const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("divisibleby", arguments, {"num"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const Value rest,
                           Apply(work, Operator::kModulo, subject, *bound[0]));
  return AreEqual(rest, Value(int64_t{0}));
}

template <int64_t remainder>
absl::StatusOr<bool> ModuloTwo(Work& work, const Value& subject,
                               const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("test", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(const Value rest, Apply(work, Operator::kModulo,
                                                   subject, Value(int64_t{2})));
  return AreEqual(rest, Value(remainder));
}

absl::StatusOr<bool> NamesFilter(Work& work, const Value& subject,
                                 const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("filter", arguments, {}, 0).status());
  return subject.is_string() && FindFilter(subject.text()) != nullptr;
}

absl::StatusOr<bool> NamesTest(Work& work, const Value& subject,
                               const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("test", arguments, {}, 0).status());
  return subject.is_string() && FindTest(subject.text()) != nullptr;
}

constexpr Test kTests[] = {
    {"defined", Alone<IsDefined>},
    {"undefined", Alone<IsUndefined>},
    {"none", Alone<IsNone>},
    {"boolean", Alone<IsBoolean>},
    {"true", Alone<IsTheTrue>},
    {"false", Alone<IsTheFalse>},
    {"integer", Alone<IsInteger>},
    {"float", Alone<IsFloat>},
    {"number", Alone<IsNumber>},
    {"string", Alone<IsString>},
    {"mapping", Alone<IsMapping>},
    {"iterable", Alone<IsIterable>},
    {"sequence", Alone<IsSequence>},
    {"callable", Alone<IsCallable>},
    {"escaped", Alone<IsEscaped>},
    {"lower", HasCase<IsLower, IsUpper>},
    {"upper", HasCase<IsUpper, IsLower>},
    {"eq", Comparison<Operator::kEqual>},
    {"equalto", Comparison<Operator::kEqual>},
    {"==", Comparison<Operator::kEqual>},
    {"ne", Comparison<Operator::kNotEqual>},
    {"!=", Comparison<Operator::kNotEqual>},
    {"lt", Comparison<Operator::kLess>},
    {"lessthan", Comparison<Operator::kLess>},
    {"<", Comparison<Operator::kLess>},
    {"le", Comparison<Operator::kLessEqual>},
    {"<=", Comparison<Operator::kLessEqual>},
    {"gt", Comparison<Operator::kGreater>},
    {"greaterthan", Comparison<Operator::kGreater>},
    {">", Comparison<Operator::kGreater>},
    {"ge", Comparison<Operator::kGreaterEqual>},
    {">=", Comparison<Operator::kGreaterEqual>},
    {"in", Comparison<Operator::kIn>},
    {"sameas", SameAs},
    {"divisibleby", DivisibleBy},
    {"odd", ModuloTwo<1>},
    {"even", ModuloTwo<0>},
    {"filter", NamesFilter},
    {"test", NamesTest},
};

}  // namespace

const Test* FindTest(absl::string_view name) {
  const Test* const end = std::end(kTests);
  const Test* found =
      std::find_if(std::begin(kTests), end,
                   [name](const Test& test) { return test.name == name; });
  return found == end ? nullptr : found;
}

}  // namespace descant::jinja
