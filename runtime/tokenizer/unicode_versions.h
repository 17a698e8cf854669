// Code points that Hugging Face's components class otherwise than utf8proc 2.8
// (Unicode 15), because their crates' data is of Unicode 8 to 17. Private to
// this folder; see unicode.h.
#ifndef DESCANT_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H_
#define DESCANT_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H_

#include "absl/types/span.h"

namespace descant {

struct CodePoints {
  char32_t first;
  char32_t last;
};

// A class of code points: plus `plus`, minus `minus`, both in order.
struct ClassDifference {
  absl::Span<const CodePoints> plus;
  absl::Span<const CodePoints> minus;

  // `usual` is what utf8proc says.
  bool Apply(char32_t code_point, bool usual) const;
};

bool Contains(absl::Span<const CodePoints> ranges, char32_t code_point);

extern const ClassDifference kPunctuationDifference;
extern const ClassDifference kNumericDifference;
extern const ClassDifference kWordDifference;
extern const ClassDifference kNonspacingMarkDifference;
extern const ClassDifference kMarkDifference;
extern const ClassDifference kBertControlDifference;

// Newer than the normalization data of `tokenizers` (Unicode 9): without a
// decomposition, and without a combining class.
extern const absl::Span<const CodePoints> kNotDecomposed;
extern const absl::Span<const CodePoints> kNotOrdered;

// Newer than utf8proc's: first..last have their lower case at the same
// distance from `lower`.
struct LowercaseRange {
  char32_t first;
  char32_t last;
  char32_t lower;
};
extern const absl::Span<const LowercaseRange> kNewLowercase;

// Newer than PCRE2 10.42 (Unicode 14) but known to Oniguruma (Unicode 16):
// first..last are of the general category of `stand_in`, Han where it is, and
// as long in UTF-8.
struct StandIn {
  char32_t first;
  char32_t last;
  char32_t stand_in;
};
extern const absl::Span<const StandIn> kStandIns;

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H_
