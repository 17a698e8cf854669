// What bounds a template and a render. Templates are the operator's, but what
// they loop over is a client's.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_LIMITS_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace descant::jinja {

// Of a template, refused at load.
inline constexpr size_t kMaxTemplateBytes = 256 << 10;
// Blocks inside blocks, and expressions inside expressions.
inline constexpr int kMaxNesting = 100;
// Of an expression's tree: a + b + ... of n terms is n deep.
inline constexpr int kMaxExpressionDepth = 300;

// Of one render; beyond them it ends with an error.
// Expressions and statements evaluated, and elements gone through.
inline constexpr int64_t kMaxSteps = 2'000'000;
// Bytes of strings read or made by operations on them, all added up. It bounds
// the memory of a render too.
inline constexpr int64_t kMaxWorkBytes = 128 << 20;
inline constexpr size_t kMaxOutputBytes = 8 << 20;
// Evaluations inside evaluations, through macros too.
inline constexpr int kMaxEvaluationDepth = 400;
// Lists and dicts inside lists and dicts.
inline constexpr int kMaxValueDepth = 64;
// As jinja2's sandbox has it.
inline constexpr int64_t kMaxRange = 100'000;

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_LIMITS_H_
