// Filters from a sequence to one of its parts, its order or its sum.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

absl::StatusOr<Value> LengthFilter(Work& work, const Value& subject,
                                   const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("length", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(const int64_t length, LengthOf(work, subject));
  return Value(length);
}

absl::StatusOr<Value> ListFilter(Work& work, const Value& subject,
                                 const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("list", arguments, {}, 0).status());
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work, subject));
  return MakeList(Flavour::kList, std::move(items));
}

absl::StatusOr<Value> First(Work& work, const Value& subject,
                            const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("first", arguments, {}, 0).status());
  if (subject.is_list(Flavour::kGenerator)) {
    // The rest can still be gone through.
    const List& list = subject.list();
    if (list.next < list.items.size()) return list.items[list.next++];
    return MakeUndefined("No first item, sequence was empty.");
  }
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work, subject));
  if (items.empty()) return MakeUndefined("No first item, sequence was empty.");
  return items.front();
}

absl::StatusOr<Value> Last(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("last", arguments, {}, 0).status());
  if (subject.is_list(Flavour::kGenerator)) {
    return RenderError("'generator' object is not reversible");
  }
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work, subject));
  if (items.empty()) return MakeUndefined("No last item, sequence was empty.");
  return items.back();
}

absl::StatusOr<Value> Reverse(Work& work, const Value& subject,
                              const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("reverse", arguments, {}, 0).status());
  if (subject.is_string()) {
    SliceBounds bounds;
    bounds.step = Value(int64_t{-1});
    return Slice(work, subject, bounds);
  }
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work, subject));
  std::reverse(items.begin(), items.end());
  return MakeList(subject.is_list(Flavour::kGenerator) ? Flavour::kList
                                                       : Flavour::kGenerator,
                  std::move(items));
}

absl::StatusOr<Value> Join(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("join", arguments, {"d", "attribute"}, 0));
  std::string separator;
  if (bound[0] != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(separator, ToText(work, *bound[0]));
  }
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work, subject));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) {
      DESCANT_RETURN_IF_ERROR(work.Bytes(separator.size()));
      out += separator;
    }
    if (bound[1] != nullptr && !bound[1]->is_none()) {
      DESCANT_ASSIGN_OR_RETURN(items[i],
                               ReadPath(work, items[i], *bound[1], nullptr));
    }
    DESCANT_RETURN_IF_ERROR(AppendText(work, items[i], &out));
  }
  return MakeString(std::move(out));
}

// What a sequence is ordered by: the element or a part of it, texts without
// their case.
absl::StatusOr<Value> SortKey(Work& work, const Value& item, const Value* path,
                              bool case_sensitive) {
  Value key = item;
  if (path != nullptr && !path->is_none()) {
    DESCANT_ASSIGN_OR_RETURN(key, ReadPath(work, item, *path, nullptr));
  }
  if (case_sensitive || !key.is_string()) return key;
  DESCANT_RETURN_IF_ERROR(work.Bytes(key.text().size()));
  return MakeString(Lower(key.text()));
}

struct Keyed {
  Value key;
  Value item;
};

absl::StatusOr<std::vector<Keyed>> WithKeys(Work& work, const Value& subject,
                                            const Value* path,
                                            bool case_sensitive) {
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    DESCANT_ASSIGN_OR_RETURN(Value key,
                             SortKey(work, item, path, case_sensitive));
    keyed.push_back({std::move(key), item});
  }
  return keyed;
}

absl::Status SortByKeys(Work& work, bool reverse, std::vector<Keyed>* items) {
  absl::Status failed;
  const auto less = [&](const Keyed& a, const Keyed& b) {
    if (!failed.ok()) return false;
    failed = work.Steps(1);
    if (!failed.ok()) return false;
    const auto result =
        reverse ? IsLess(work, b.key, a.key) : IsLess(work, a.key, b.key);
    if (!result.ok()) failed = result.status();
    return result.ok() && *result;
  };
  std::stable_sort(items->begin(), items->end(), less);
  return failed;
}

absl::StatusOr<Value> Items(std::vector<Keyed> keyed, Flavour flavour) {
  std::vector<Value> items;
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return MakeList(flavour, std::move(items));
}

absl::StatusOr<Value> Sort(Work& work, const Value& subject,
                           const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool reverse, TruthOr(bound[0], false));
  DESCANT_ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(bound[1], false));
  if (bound[2] != nullptr && bound[2]->is_string() &&
      bound[2]->text().find(',') != std::string::npos) {
    return NotServed("sort() by several attributes");
  }
  DESCANT_ASSIGN_OR_RETURN(auto keyed,
                           WithKeys(work, subject, bound[2], case_sensitive));
  DESCANT_RETURN_IF_ERROR(SortByKeys(work, reverse, &keyed));
  return Items(std::move(keyed), Flavour::kList);
}

absl::StatusOr<Value> DictSort(Work& work, const Value& subject,
                               const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(bound[0], false));
  DESCANT_ASSIGN_OR_RETURN(const bool reverse, TruthOr(bound[2], false));
  absl::string_view by = "key";
  if (bound[1] != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(by, TextOf(bound[1]));
  }
  if (by != "key" && by != "value") {
    return RenderError("You can only sort by either \"key\" or \"value\"");
  }
  if (subject.is_undefined()) return UndefinedError(subject.undefined());
  if (!subject.is(Kind::kDict)) {
    return RenderError(absl::StrCat("'", TypeName(subject),
                                    " object' has no attribute 'items'"));
  }
  std::vector<Keyed> keyed;
  for (const auto& [key, item] : subject.dict().items()) {
    DESCANT_RETURN_IF_ERROR(work.Steps(1));
    DESCANT_ASSIGN_OR_RETURN(
        Value sort_key,
        SortKey(work, by == "key" ? key : item, nullptr, case_sensitive));
    DESCANT_ASSIGN_OR_RETURN(Value pair,
                             MakeList(Flavour::kTuple, {key, item}));
    keyed.push_back({std::move(sort_key), std::move(pair)});
  }
  DESCANT_RETURN_IF_ERROR(SortByKeys(work, reverse, &keyed));
  return Items(std::move(keyed), Flavour::kList);
}

absl::StatusOr<Value> Unique(Work& work, const Value& subject,
                             const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("unique", arguments, {"case_sensitive", "attribute"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(bound[0], false));
  DESCANT_ASSIGN_OR_RETURN(const auto keyed,
                           WithKeys(work, subject, bound[1], case_sensitive));
  Dict seen;
  std::vector<Value> items;
  for (const Keyed& entry : keyed) {
    if (!IsHashable(entry.key)) {
      return RenderError(
          absl::StrCat("unhashable type: '", TypeName(entry.key), "'"));
    }
    DESCANT_RETURN_IF_ERROR(ChargeLookup(work, seen, entry.key));
    if (seen.Find(entry.key) != nullptr) continue;
    seen.Set(entry.key, None());
    items.push_back(entry.item);
  }
  return MakeList(Flavour::kGenerator, std::move(items));
}

absl::StatusOr<Value> Extreme(Work& work, const Value& subject,
                              const Arguments& arguments, bool wants_max) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("min", arguments, {"case_sensitive", "attribute"}, 0));
  DESCANT_ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(bound[0], false));
  DESCANT_ASSIGN_OR_RETURN(const auto keyed,
                           WithKeys(work, subject, bound[1], case_sensitive));
  if (keyed.empty()) {
    return MakeUndefined("No aggregated item, sequence was empty.");
  }
  const Keyed* best = &keyed[0];
  for (const Keyed& entry : keyed) {
    DESCANT_ASSIGN_OR_RETURN(const bool better,
                             wants_max ? IsLess(work, best->key, entry.key)
                                       : IsLess(work, entry.key, best->key));
    if (better) best = &entry;
  }
  return best->item;
}

absl::StatusOr<Value> Min(Work& work, const Value& subject,
                          const Arguments& arguments) {
  return Extreme(work, subject, arguments, false);
}

absl::StatusOr<Value> Max(Work& work, const Value& subject,
                          const Arguments& arguments) {
  return Extreme(work, subject, arguments, true);
}

absl::StatusOr<Value> Sum(Work& work, const Value& subject,
                          const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(const auto bound,
                           Bind("sum", arguments, {"attribute", "start"}, 0));
  Value total = bound[1] == nullptr ? Value(int64_t{0}) : *bound[1];
  if (total.is_string()) return RenderError("sum() can't sum strings");
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  for (const Value& item : items) {
    Value part = item;
    if (bound[0] != nullptr && !bound[0]->is_none()) {
      DESCANT_ASSIGN_OR_RETURN(part, ReadPath(work, item, *bound[0], nullptr));
    }
    DESCANT_ASSIGN_OR_RETURN(total, Apply(work, Operator::kAdd, total, part));
  }
  return total;
}

absl::StatusOr<Value> Batch(Work& work, const Value& subject,
                            const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound,
      Bind("batch", arguments, {"linecount", "fill_with"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const int64_t size, IntegerOr(bound[0], 0));
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  std::vector<Value> batches;
  std::vector<Value> batch;
  const auto flush = [&]() -> absl::Status {
    DESCANT_ASSIGN_OR_RETURN(
        Value list, MakeList(Flavour::kList, std::exchange(batch, {})));
    batches.push_back(std::move(list));
    return absl::OkStatus();
  };
  for (const Value& item : items) {
    if (static_cast<int64_t>(batch.size()) == size) {
      DESCANT_RETURN_IF_ERROR(flush());
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    const int64_t missing = size - static_cast<int64_t>(batch.size());
    if (bound[1] != nullptr && !bound[1]->is_none() && missing > 0) {
      DESCANT_RETURN_IF_ERROR(work.Steps(missing));
      batch.insert(batch.end(), static_cast<size_t>(missing), *bound[1]);
    }
    DESCANT_RETURN_IF_ERROR(flush());
  }
  return MakeList(Flavour::kGenerator, std::move(batches));
}

absl::StatusOr<Value> SliceFilter(Work& work, const Value& subject,
                                  const Arguments& arguments) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto bound, Bind("slice", arguments, {"slices", "fill_with"}, 1));
  DESCANT_ASSIGN_OR_RETURN(const int64_t slices, IntegerOr(bound[0], 0));
  DESCANT_ASSIGN_OR_RETURN(const auto items, Elements(work, subject));
  if (slices == 0) return RenderError("integer division or modulo by zero");
  std::vector<Value> out;
  if (slices > 0) DESCANT_RETURN_IF_ERROR(work.Steps(slices));
  const auto length = static_cast<int64_t>(items.size());
  auto at = items.begin();
  for (int64_t i = 0; i < slices; ++i) {
    const bool extra = i < length % slices;
    const auto end = at + length / slices + (extra ? 1 : 0);
    std::vector<Value> part(at, end);
    at = end;
    if (bound[1] != nullptr && !bound[1]->is_none() && !extra) {
      part.push_back(*bound[1]);
    }
    DESCANT_ASSIGN_OR_RETURN(Value list,
                             MakeList(Flavour::kList, std::move(part)));
    out.push_back(std::move(list));
  }
  return MakeList(Flavour::kGenerator, std::move(out));
}

absl::StatusOr<Value> ItemsFilter(Work& work, const Value& subject,
                                  const Arguments& arguments) {
  DESCANT_RETURN_IF_ERROR(Bind("items", arguments, {}, 0).status());
  if (subject.is_undefined()) return MakeList(Flavour::kGenerator, {});
  if (!subject.is(Kind::kDict)) {
    return RenderError("Can only get item pairs from a mapping.");
  }
  return DictView(work, subject.dict(), Flavour::kGenerator);
}

constexpr Filter kFilters[] = {
    {"batch", Batch},       {"count", LengthFilter},
    {"dictsort", DictSort}, {"first", First},
    {"items", ItemsFilter}, {"join", Join},
    {"last", Last},         {"length", LengthFilter},
    {"list", ListFilter},   {"max", Max},
    {"min", Min},           {"reverse", Reverse},
    {"slice", SliceFilter}, {"sort", Sort},
    {"sum", Sum},           {"unique", Unique},
};

}  // namespace

absl::Span<const Filter> SequenceFilters() { return kFilters; }

}  // namespace descant::jinja
