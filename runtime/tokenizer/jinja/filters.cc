#include "runtime/tokenizer/jinja/filters.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/operators.h"

namespace descant::jinja {

const Filter* FindFilter(absl::string_view name) {
  static const auto* const table = [] {
    auto* all = new absl::flat_hash_map<absl::string_view, const Filter*>();
    for (const absl::Span<const Filter> part :
         {TextFilters(), SequenceFilters(), SelectionFilters()}) {
      for (const Filter& filter : part) (*all)[filter.name] = &filter;
    }
    return all;
  }();
  const auto found = table->find(name);
  return found == table->end() ? nullptr : found->second;
}

absl::StatusOr<Value> ReadPath(Work& work, const Value& value,
                               const Value& path, const Value* missing) {
  if (!path.is_string()) {
    DESCANT_ASSIGN_OR_RETURN(Value item, Subscript(work, value, path));
    if (missing != nullptr && item.is_undefined()) return *missing;
    return item;
  }
  Value item = value;
  for (const absl::string_view part : absl::StrSplit(path.text(), '.')) {
    const bool is_index =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
          return absl::ascii_isdigit(static_cast<unsigned char>(c));
        });
    Value key;
    int64_t index = 0;
    if (is_index && absl::SimpleAtoi(part, &index)) {
      key = Value(index);
    } else {
      key = MakeString(std::string(part));
    }
    DESCANT_ASSIGN_OR_RETURN(item, Subscript(work, item, key));
    if (missing != nullptr && item.is_undefined()) item = *missing;
  }
  return item;
}

}  // namespace descant::jinja
