// Filters that apply other filters, or tests, to each element; and `default`.
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/tests.h"

namespace descant::jinja {
namespace {

// All but the first `skipped` positional arguments.
Arguments Rest(const Arguments& arguments, size_t skipped) {
  Arguments rest;
  rest.positional.assign(
      arguments.positional.begin() + static_cast<ptrdiff_t>(skipped),
      arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

absl::StatusOr<Value> MapPath(Work& work, const std::vector<Value>& items,
                              const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("map", arguments, {"attribute", "default"}, 1));
  const Value* missing =
      bound[1] != nullptr && !bound[1]->is_none() ? bound[1] : nullptr;
  std::vector<Value> out;
  for (const Value& item : items) {
    DESCANT_ASSIGN_OR_RETURN(Value part,
                             ReadPath(work, item, *bound[0], missing));
    out.push_back(std::move(part));
  }
  return MakeList(Flavour::kGenerator, std::move(out));
}

absl::StatusOr<Value> Map(Work& work, const Value& subject,
                          const Arguments& arguments) {
  if (!IsTrue(subject)) return MakeList(Flavour::kGenerator, {});
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  if (arguments.positional.empty()) return MapPath(work, items, arguments);
  DESCANT_ASSIGN_OR_RETURN(const absl::string_view name,
                           TextOf(&arguments.positional[0]));
  const Filter* filter = FindFilter(name);
  if (filter == nullptr) {
    return RenderError(absl::StrCat("No filter named '", name, "'."));
  }
  const Arguments rest = Rest(arguments, 1);
  std::vector<Value> out;
  for (const Value& item : items) {
    DESCANT_RETURN_IF_ERROR(work.Steps(1));
    DESCANT_ASSIGN_OR_RETURN(Value mapped, filter->apply(work, item, rest));
    out.push_back(std::move(mapped));
  }
  return MakeList(Flavour::kGenerator, std::move(out));
}

// The elements for which a test, of themselves or of a part, is `wanted`.
absl::StatusOr<Value> Choose(Work& work, const Value& subject,
                             const Arguments& arguments, bool by_attribute,
                             bool wanted) {
  if (!IsTrue(subject)) return MakeList(Flavour::kGenerator, {});
  const size_t at = by_attribute ? 1 : 0;
  if (arguments.positional.size() < at) {
    return RenderError("Missing parameter for attribute name");
  }
  const Test* test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > at) {
    DESCANT_ASSIGN_OR_RETURN(const absl::string_view name,
                             TextOf(&arguments.positional[at]));
    test = FindTest(name);
    if (test == nullptr) {
      return RenderError(absl::StrCat("No test named '", name, "'."));
    }
    rest = Rest(arguments, at + 1);
  }
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  std::vector<Value> out;
  for (const Value& item : items) {
    DESCANT_RETURN_IF_ERROR(work.Steps(1));
    Value tested = item;
    if (by_attribute) {
      DESCANT_ASSIGN_OR_RETURN(
          tested, ReadPath(work, item, arguments.positional[0], nullptr));
    }
    bool holds = false;
    if (test == nullptr) {
      holds = IsTrue(tested);
    } else {
      DESCANT_ASSIGN_OR_RETURN(holds, test->holds(work, tested, rest));
    }
    if (holds == wanted) out.push_back(item);
  }
  return MakeList(Flavour::kGenerator, std::move(out));
}

template <bool by_attribute, bool wanted>
absl::StatusOr<Value> ChooseFilter(Work& work, const Value& subject,
                                   const Arguments& arguments) {
  return Choose(work, subject, arguments, by_attribute, wanted);
}

absl::StatusOr<Value> Default(Work& work, const Value& subject,
                              const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("default", arguments, {"default_value", "boolean"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool boolean, TruthOr(bound[1], false));
  if (!subject.is_undefined() && !(boolean && !IsTrue(subject))) return subject;
  return bound[0] == nullptr ? MakeString("") : *bound[0];
}

absl::StatusOr<Value> Attr(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("attr", arguments, {"name"}, 1));
  DESCANT_RETURN_IF_ERROR(TextOf(bound[0]).status());
  const Method* method = FindMethod(bound[0]->text());
  if (subject.is(Kind::kDict) &&
      (method == nullptr || (method->kinds & KindBit(Kind::kDict)) == 0)) {
    Undefined undefined;
    undefined.why = Undefined::kAttribute;
    undefined.owner = Kind::kDict;
    undefined.text = bound[0]->string();
    return Value(std::move(undefined));
  }
  return AttributeOf(subject, bound[0]->string(), method);
}

constexpr Filter kFilters[] = {
    {"attr", Attr},
    {"d", Default},
    {"default", Default},
    {"map", Map},
    {"reject", ChooseFilter<false, false>},
    {"rejectattr", ChooseFilter<true, false>},
    {"select", ChooseFilter<false, true>},
    {"selectattr", ChooseFilter<true, true>},
};

}  // namespace

absl::Span<const Filter> SelectionFilters() { return kFilters; }

}  // namespace descant::jinja
