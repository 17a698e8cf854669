// jinja2's built-in filters, as far as they are rendered, and `tojson` as
// Transformers has it (json.dumps without escaping HTML).
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_FILTERS_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_FILTERS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/jinja/callable.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

struct Filter {
  absl::string_view name;
  absl::StatusOr<Value> (*apply)(Work& work, const Value& subject,
                                 const Arguments& arguments);
};

// Null: not known.
const Filter* FindFilter(absl::string_view name);

// The parts of the table, by file.
absl::Span<const Filter> TextFilters();
absl::Span<const Filter> SequenceFilters();
absl::Span<const Filter> SelectionFilters();

// environment.getitem along "a.b.0", as filters with an `attribute` read it;
// `missing`, where not null, in place of what is undefined on the way.
absl::StatusOr<Value> ReadPath(Work& work, const Value& value,
                               const Value& path, const Value* missing);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_FILTERS_H_
