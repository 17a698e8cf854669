#include "runtime/tokenizer/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/arithmetic.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

bool SameElements(const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), AreEqual);
}

bool SameDicts(const Dict& a, const Dict& b) {
  return a.items().size() == b.items().size() &&
         std::all_of(a.items().begin(), a.items().end(),
                     [&](const Dict::Item& item) {
                       const Value* other = b.Find(item.first);
                       return other != nullptr && AreEqual(item.second, *other);
                     });
}

bool Compares(Operator op, int order) {
  switch (op) {
    case Operator::kLess:
      return order < 0;
    case Operator::kLessEqual:
      return order <= 0;
    case Operator::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

// <, <=, > and >=.
absl::StatusOr<bool> Order(Work& work, Operator op, const Value& a,
                           const Value& b) {
  const std::optional<double> left = a.as_real();
  const std::optional<double> right = b.as_real();
  if (left.has_value() && right.has_value()) {
    if (a.as_integer().has_value() && b.as_integer().has_value()) {
      const int64_t x = *a.as_integer();
      const int64_t y = *b.as_integer();
      return Compares(op, x < y ? -1 : (x > y ? 1 : 0));
    }
    if (std::isnan(*left) || std::isnan(*right)) return false;
    return Compares(op, *left < *right ? -1 : (*left > *right ? 1 : 0));
  }
  if (a.is_string() && b.is_string()) {
    DESCANT_RETURN_IF_ERROR(
        work.Bytes(std::min(a.text().size(), b.text().size())));
    return Compares(op, a.text().compare(b.text()));
  }
  if (a.is(Kind::kList) && b.is(Kind::kList) &&
      a.list().flavour == b.list().flavour && IsRepeatable(a)) {
    const std::vector<Value>& x = a.list().items;
    const std::vector<Value>& y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      DESCANT_RETURN_IF_ERROR(
          work.Steps(std::min(WeightOf(x[i]), WeightOf(y[i]))));
      if (!AreEqual(x[i], y[i])) return Order(work, op, x[i], y[i]);
    }
    return Compares(op, x.size() < y.size() ? -1 : (x.size() > y.size()));
  }
  if (a.is_undefined()) return UndefinedError(a.undefined());
  if (b.is_undefined()) return UndefinedError(b.undefined());
  return RenderError(absl::StrCat("'", Symbol(op),
                                  "' not supported between instances of '",
                                  TypeName(a), "' and '", TypeName(b), "'"));
}

// The element of `list` that `index` counts, or null.
const Value* At(const List& list, int64_t index) {
  const auto size = static_cast<int64_t>(list.items.size());
  if (index < 0) index += size;
  if (index < 0 || index >= size) return nullptr;
  return &list.items[static_cast<size_t>(index)];
}

absl::StatusOr<std::optional<int64_t>> SliceIndex(const Value& value) {
  if (value.is_none()) return std::optional<int64_t>();
  const std::optional<int64_t> index = value.as_integer();
  if (!index.has_value()) {
    return RenderError(
        "slice indices must be integers or None or have an __index__ method");
  }
  return index;
}

struct Range {
  int64_t start;
  int64_t step;
  int64_t count;
};

// slice.indices().
absl::StatusOr<Range> Resolve(const SliceBounds& bounds, int64_t size) {
  DESCANT_ASSIGN_OR_RETURN(const auto start, SliceIndex(bounds.start));
  DESCANT_ASSIGN_OR_RETURN(const auto stop, SliceIndex(bounds.stop));
  DESCANT_ASSIGN_OR_RETURN(const auto step_or, SliceIndex(bounds.step));
  int64_t step = step_or.value_or(1);
  if (step == 0) return RenderError("slice step cannot be zero");
  step = std::clamp<int64_t>(step, -(int64_t{1} << 40), int64_t{1} << 40);
  const int64_t low = step < 0 ? -1 : 0;
  const int64_t high = step < 0 ? size - 1 : size;
  const auto clip = [&](std::optional<int64_t> index, int64_t missing) {
    if (!index.has_value()) return missing;
    if (*index < 0) return std::max(*index + size, low);
    return std::min(*index, high);
  };
  Range range{clip(start, step < 0 ? high : low), step, 0};
  const int64_t end = clip(stop, step < 0 ? low : high);
  const int64_t span = step < 0 ? range.start - end : end - range.start;
  if (span > 0) range.count = (span - 1) / std::abs(step) + 1;
  return range;
}

absl::StatusOr<Value> SliceText(Work& work, const std::string& text,
                                const SliceBounds& bounds) {
  DESCANT_RETURN_IF_ERROR(work.Bytes(text.size()));
  DESCANT_ASSIGN_OR_RETURN(const Range range,
                           Resolve(bounds, static_cast<int64_t>(Length(text))));
  if (range.count == 0) return MakeString("");
  if (range.step == 1) {
    const size_t begin = ByteOffset(text, static_cast<size_t>(range.start));
    const absl::string_view rest = absl::string_view(text).substr(begin);
    return MakeString(std::string(
        rest.substr(0, ByteOffset(rest, static_cast<size_t>(range.count)))));
  }
  const std::vector<absl::string_view> characters = Characters(text);
  std::string out;
  for (int64_t i = 0; i < range.count; ++i) {
    absl::StrAppend(
        &out, characters[static_cast<size_t>(range.start + i * range.step)]);
  }
  return MakeString(std::move(out));
}

}  // namespace

absl::string_view TypeName(const Value& value) {
  static constexpr absl::string_view kFlavours[] = {
      "list",        "tuple",      "range",    "dict_keys",
      "dict_values", "dict_items", "generator"};
  static constexpr absl::string_view kKinds[] = {
      "Undefined", "NoneType", "bool",      "int",      "float",      "str",
      "list",      "dict",     "Namespace", "function", "LoopContext"};
  if (value.is(Kind::kList)) {
    return kFlavours[static_cast<int>(value.list().flavour)];
  }
  return kKinds[static_cast<int>(value.kind())];
}

absl::Status UndefinedError(const Undefined& undefined) {
  if (undefined.text == nullptr) return RenderError("value is undefined");
  static constexpr absl::string_view kOwners[] = {
      "Undefined",
      "None",
      "bool object",
      "int object",
      "float object",
      "str object",
      "list object",
      "dict object",
      "jinja2.utils.Namespace object",
      "function object",
      "jinja2.runtime.LoopContext object"};
  const absl::string_view owner = kOwners[static_cast<int>(undefined.owner)];
  const std::string& text = undefined.text->text;
  switch (undefined.why) {
    case Undefined::kName:
      return RenderError(absl::StrCat("'", text, "' is undefined"));
    case Undefined::kAttribute:
      return RenderError(
          absl::StrCat("'", owner, "' has no attribute '", text, "'"));
    case Undefined::kElement:
      return RenderError(absl::StrCat(owner, " has no element ", text));
    case Undefined::kMessage:
      break;
  }
  return RenderError(text);
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.boolean();
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
      return value.list().flavour == Flavour::kGenerator ||
             !value.list().items.empty();
    case Kind::kDict:
      return !value.dict().items().empty();
    case Kind::kLoop:
      return !value.loop().items.empty();
    default:
      return true;
  }
}

bool AreEqual(const Value& a, const Value& b) {
  if (a.as_integer().has_value() && b.as_integer().has_value()) {
    return *a.as_integer() == *b.as_integer();
  }
  if (a.as_real().has_value() && b.as_real().has_value()) {
    return *a.as_real() == *b.as_real();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.text() == b.text();
    case Kind::kList:
      if (a.identity() == b.identity()) return true;
      return a.list().flavour == b.list().flavour &&
             a.list().flavour != Flavour::kGenerator &&
             a.list().flavour != Flavour::kValues &&
             SameElements(a.list().items, b.list().items);
    case Kind::kDict:
      return a.identity() == b.identity() || SameDicts(a.dict(), b.dict());
    default:
      return a.identity() == b.identity();
  }
}

absl::Status ChargeLookup(Work& work, const Dict& dict, const Value& key) {
  if (key.is_string()) return work.Steps(1);
  // Only texts are searched by hash.
  return work.Steps(WeightOf(key) *
                    (1 + static_cast<int64_t>(dict.items().size())));
}

absl::StatusOr<bool> IsLess(Work& work, const Value& a, const Value& b) {
  return Order(work, Operator::kLess, a, b);
}

absl::StatusOr<bool> Contains(Work& work, const Value& container,
                              const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      return RenderError(
          absl::StrCat("'in <string>' requires string as left operand, not ",
                       TypeName(item)));
    }
    DESCANT_RETURN_IF_ERROR(work.Bytes(container.text().size()));
    return absl::StrContains(container.text(), item.text());
  }
  if (container.is(Kind::kDict)) {
    if (!IsHashable(item)) {
      return RenderError(
          absl::StrCat("unhashable type: '", TypeName(item), "'"));
    }
    DESCANT_RETURN_IF_ERROR(ChargeLookup(work, container.dict(), item));
    return container.dict().Find(item) != nullptr;
  }
  if (!container.is(Kind::kList) && !container.is_undefined()) {
    return RenderError(absl::StrCat("argument of type '", TypeName(container),
                                    "' is not iterable"));
  }
  DESCANT_ASSIGN_OR_RETURN(const std::vector<Value> items,
                           Elements(work, container));
  for (const Value& element : items) {
    DESCANT_RETURN_IF_ERROR(
        work.Steps(std::min(WeightOf(element), WeightOf(item))));
    if (AreEqual(element, item)) return true;
  }
  return false;
}

absl::StatusOr<Value> Apply(Work& work, Operator op, const Value& a,
                            const Value& b) {
  switch (op) {
    case Operator::kEqual:
    case Operator::kNotEqual:
      if (a.kind() == b.kind()) {
        DESCANT_RETURN_IF_ERROR(work.Steps(std::min(WeightOf(a), WeightOf(b))));
      }
      return Value(AreEqual(a, b) == (op == Operator::kEqual));
    case Operator::kIn:
    case Operator::kNotIn: {
      DESCANT_ASSIGN_OR_RETURN(const bool found, Contains(work, b, a));
      return Value(found == (op == Operator::kIn));
    }
    case Operator::kLess:
    case Operator::kLessEqual:
    case Operator::kGreater:
    case Operator::kGreaterEqual: {
      DESCANT_ASSIGN_OR_RETURN(const bool holds, Order(work, op, a, b));
      return Value(holds);
    }
    default:
      return Arithmetic(work, op, a, b);
  }
}

absl::StatusOr<Value> Subscript(Work& work, const Value& object,
                                const Value& key) {
  if (object.is_undefined()) return UndefinedError(object.undefined());
  if (object.is(Kind::kDict)) {
    DESCANT_RETURN_IF_ERROR(ChargeLookup(work, object.dict(), key));
    if (IsHashable(key)) {
      if (const Value* found = object.dict().Find(key)) return *found;
    }
  } else if (const auto index = key.as_integer(); index.has_value()) {
    if (object.is(Kind::kList) &&
        (IsRepeatable(object) || object.is_list(Flavour::kRange))) {
      if (const Value* found = At(object.list(), *index)) return *found;
    } else if (object.is_string()) {
      DESCANT_RETURN_IF_ERROR(work.Bytes(object.text().size()));
      const auto size = static_cast<int64_t>(Length(object.text()));
      const int64_t at = *index < 0 ? *index + size : *index;
      if (at >= 0 && at < size) {
        SliceBounds bounds;
        bounds.start = Value(at);
        bounds.stop = Value(at + 1);
        return SliceText(work, object.text(), bounds);
      }
    }
  }
  if (key.is_string()) return AttributeOf(object, key.string(), nullptr);
  Undefined undefined;
  undefined.why = Undefined::kElement;
  undefined.owner = object.kind();
  std::string text;
  DESCANT_RETURN_IF_ERROR(AppendRepr(work, key, &text));
  undefined.text = std::make_shared<const String>(String{std::move(text)});
  return Value(std::move(undefined));
}

absl::StatusOr<Value> Slice(Work& work, const Value& object,
                            const SliceBounds& bounds) {
  if (object.is_undefined()) return UndefinedError(object.undefined());
  if (object.is_string()) return SliceText(work, object.text(), bounds);
  if (!object.is(Kind::kList) ||
      !(IsRepeatable(object) || object.is_list(Flavour::kRange))) {
    return RenderError(
        absl::StrCat("'", TypeName(object), "' object is not subscriptable"));
  }
  const std::vector<Value>& items = object.list().items;
  DESCANT_ASSIGN_OR_RETURN(const Range range,
                           Resolve(bounds, static_cast<int64_t>(items.size())));
  DESCANT_RETURN_IF_ERROR(work.Steps(range.count));
  std::vector<Value> out;
  for (int64_t i = 0; i < range.count; ++i) {
    out.push_back(items[static_cast<size_t>(range.start + i * range.step)]);
  }
  return MakeList(object.list().flavour, std::move(out));
}

absl::StatusOr<int64_t> LengthOf(Work& work, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      DESCANT_RETURN_IF_ERROR(work.Bytes(value.text().size()));
      return static_cast<int64_t>(Length(value.text()));
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().items().size());
    case Kind::kLoop:
      return static_cast<int64_t>(value.loop().items.size());
    case Kind::kList:
      if (value.list().flavour != Flavour::kGenerator) {
        return static_cast<int64_t>(value.list().items.size());
      }
      [[fallthrough]];
    default:
      return RenderError(
          absl::StrCat("object of type '", TypeName(value), "' has no len()"));
  }
}

absl::StatusOr<std::vector<Value>> Elements(Work& work, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kString:
      DESCANT_RETURN_IF_ERROR(
          work.Steps(static_cast<int64_t>(value.text().size())));
      for (const absl::string_view character : Characters(value.text())) {
        items.push_back(MakeString(std::string(character)));
      }
      return items;
    case Kind::kDict:
      DESCANT_RETURN_IF_ERROR(
          work.Steps(static_cast<int64_t>(value.dict().items().size())));
      for (const auto& [key, item] : value.dict().items()) {
        items.push_back(key);
      }
      return items;
    case Kind::kList: {
      const List& list = value.list();
      DESCANT_RETURN_IF_ERROR(
          work.Steps(static_cast<int64_t>(list.items.size())));
      if (list.flavour != Flavour::kGenerator) return list.items;
      items.assign(list.items.begin() + static_cast<ptrdiff_t>(list.next),
                   list.items.end());
      list.next = list.items.size();
      return items;
    }
    default:
      return RenderError(
          absl::StrCat("'", TypeName(value), "' object is not iterable"));
  }
}

}  // namespace descant::jinja
