#include "runtime/tokenizer/jinja/methods.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/operators.h"

namespace descant::jinja {
namespace {

constexpr uint32_t kList = KindBit(Kind::kList);
constexpr uint32_t kDict = KindBit(Kind::kDict);
constexpr uint32_t kLoop = KindBit(Kind::kLoop);

absl::StatusOr<Value> Keys(Work& work, const Value& self,
                           const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("keys", arguments, {}, 0).status());
  return DictView(work, self.dict(), Flavour::kKeys);
}

absl::StatusOr<Value> Values(Work& work, const Value& self,
                             const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("values", arguments, {}, 0).status());
  return DictView(work, self.dict(), Flavour::kValues);
}

absl::StatusOr<Value> ItemsOf(Work& work, const Value& self,
                              const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("items", arguments, {}, 0).status());
  return DictView(work, self.dict(), Flavour::kItems);
}

absl::StatusOr<Value> Get(Work& work, const Value& self,
                          const Arguments& arguments) {
  if (!arguments.named.empty()) {
    return RenderError("dict.get() takes no keyword arguments");
  }
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("get", arguments, {"key", "default"}, 1));
  if (!IsHashable(*bound[0])) {
    return RenderError(
        absl::StrCat("unhashable type: '", TypeName(*bound[0]), "'"));
  }
  DESCANT_RETURN_IF_ERROR(ChargeLookup(work, self.dict(), *bound[0]));
  if (const Value* found = self.dict().Find(*bound[0])) return *found;
  return bound[1] == nullptr ? Value(None()) : *bound[1];
}

absl::StatusOr<Value> Copy(Work& work, const Value& self,
                           const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("copy", arguments, {}, 0).status());
  return self;
}

absl::StatusOr<Value> Cycle(Work& work, const Value& self,
                            const Arguments& arguments) {
  if (arguments.positional.empty()) {
    return RenderError("no items for cycling given");
  }
  return arguments.positional[self.loop().index0 % arguments.positional.size()];
}

absl::StatusOr<Value> Changed(Work& work, const Value& self,
                              const Arguments& arguments) {
  const Loop& loop = self.loop();
  DESCANT_ASSIGN_OR_RETURN(const Value now,
                           MakeList(Flavour::kTuple, arguments.positional));
  DESCANT_RETURN_IF_ERROR(work.Steps(WeightOf(now)));
  const bool same =
      loop.has_changed &&
      std::equal(loop.last_changed.begin(), loop.last_changed.end(),
                 now.list().items.begin(), now.list().items.end(), AreEqual);
  loop.has_changed = true;
  loop.last_changed = now.list().items;
  return Value(!same);
}

constexpr Method kMethods[] = {
    {"append", kList, kList, nullptr},
    {"changed", kLoop, 0, Changed},
    {"clear", kList | kDict, kList | kDict, nullptr},
    {"copy", kList | kDict, 0, Copy},
    {"cycle", kLoop, 0, Cycle},
    {"extend", kList, kList, nullptr},
    {"fromkeys", kDict, 0, nullptr},
    {"get", kDict, 0, Get},
    {"insert", kList, kList, nullptr},
    {"items", kDict, 0, ItemsOf},
    {"keys", kDict, 0, Keys},
    {"pop", kList | kDict, kList | kDict, nullptr},
    {"popitem", kDict, kDict, nullptr},
    {"remove", kList, kList, nullptr},
    {"reverse", kList, kList, nullptr},
    {"setdefault", kDict, kDict, nullptr},
    {"sort", kList, kList, nullptr},
    {"update", kDict, kDict, nullptr},
    {"values", kDict, 0, Values},
};

Value Neighbour(const Loop& loop, size_t index, absl::string_view missing) {
  if (index < loop.items.size()) return loop.items[index];
  return MakeUndefined(missing);
}

std::optional<Value> LoopAttribute(const Loop& loop, absl::string_view name) {
  const auto index0 = static_cast<int64_t>(loop.index0);
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value(index0 + 1);
  if (name == "index0") return Value(index0);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(index0 + 1 == length);
  if (name == "length") return Value(length);
  if (name == "revindex") return Value(length - index0);
  if (name == "revindex0") return Value(length - index0 - 1);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") {
    return Neighbour(loop, loop.index0 - 1, "there is no previous item");
  }
  if (name == "nextitem") {
    return Neighbour(loop, loop.index0 + 1, "there is no next item");
  }
  return std::nullopt;
}

bool IsNumberAttribute(absl::string_view name) {
  for (const absl::string_view known :
       {"real", "imag", "numerator", "denominator", "conjugate", "bit_length",
        "bit_count", "to_bytes", "from_bytes", "as_integer_ratio", "is_integer",
        "hex", "fromhex"}) {
    if (name == known) return true;
  }
  return false;
}

// Python's `list` methods are not all those of a tuple or range.
bool HasMethod(const Value& object, const Method& method) {
  if ((method.kinds & KindBit(object.kind())) == 0) return false;
  if (!object.is(Kind::kList)) return true;
  if (object.is_list(Flavour::kList)) return true;
  return (object.is_list(Flavour::kTuple) || object.is_list(Flavour::kRange)) &&
         (method.name == "index" || method.name == "count");
}

}  // namespace

absl::Span<const Method> ContainerMethods() { return kMethods; }

const Method* FindMethod(absl::string_view name) {
  static const auto* const table = [] {
    auto* all = new absl::flat_hash_map<absl::string_view, const Method*>();
    for (const absl::Span<const Method> part :
         {TextMethods(), ContainerMethods()}) {
      for (const Method& method : part) (*all)[method.name] = &method;
    }
    return all;
  }();
  const auto found = table->find(name);
  return found == table->end() ? nullptr : found->second;
}

absl::StatusOr<Value> AttributeOf(const Value& object,
                                  const std::shared_ptr<const String>& name,
                                  const Method* method) {
  if (object.is_undefined()) return UndefinedError(object.undefined());
  if (method == nullptr) method = FindMethod(name->text);
  if (method != nullptr && HasMethod(object, *method)) {
    if ((method->mutates & KindBit(object.kind())) != 0) {
      return MakeUndefined(absl::StrCat("access to attribute '", name->text,
                                        "' of '", TypeName(object),
                                        "' object is unsafe."));
    }
    auto callable = std::make_shared<Callable>();
    callable->method = method;
    callable->self = object;
    return Value(std::shared_ptr<const Callable>(std::move(callable)));
  }
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.dict().Find(name->text)) return *found;
  } else if (object.is(Kind::kNamespace)) {
    if (const Value* found = object.name_space().Find(name->text)) {
      return *found;
    }
  } else if (object.is(Kind::kLoop)) {
    auto value = LoopAttribute(object.loop(), name->text);
    if (value.has_value()) return *std::move(value);
  }
  if (object.as_real().has_value() && IsNumberAttribute(name->text)) {
    return NotServed(absl::StrCat("the attribute '", name->text, "'"));
  }
  Undefined undefined;
  undefined.why = Undefined::kAttribute;
  undefined.owner = object.kind();
  undefined.text = name;
  return Value(std::move(undefined));
}

absl::StatusOr<Value> DictView(Work& work, const Dict& dict, Flavour flavour) {
  std::vector<Value> out;
  DESCANT_RETURN_IF_ERROR(
      work.Steps(static_cast<int64_t>(dict.items().size())));
  for (const auto& [key, value] : dict.items()) {
    if (flavour == Flavour::kKeys) {
      out.push_back(key);
    } else if (flavour == Flavour::kValues) {
      out.push_back(value);
    } else {
      DESCANT_ASSIGN_OR_RETURN(Value pair,
                               MakeList(Flavour::kTuple, {key, value}));
      out.push_back(std::move(pair));
    }
  }
  return MakeList(flavour, std::move(out));
}

}  // namespace descant::jinja
