// A parsed template. Immutable; thread-safe.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_AST_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

struct Expression;
struct Filter;
struct Method;
struct Statement;
struct Test;

using ExpressionPtr = std::unique_ptr<Expression>;
using Block = std::vector<Statement>;
using NamePtr = std::shared_ptr<const String>;
// A name of the template, as an index.
using Symbol = int;

struct Expression {
  enum Kind : uint8_t {
    kConstant,
    kName,
    kList,
    kTuple,
    kDict,       // key, value, key, value, ...
    kAttribute,  // operands[0].name
    kSubscript,  // operands[0][operands[1]]
    kSlice,      // operands[0][start:stop:step], null where left out
    kCall,       // operands[0](operands[1], ...)
    kFilter,     // operands[0] | filter(operands[1], ...); null: the block
    kTest,       // operands[0] is test(operands[1], ...)
    kNot,
    kNegative,
    kPositive,
    kAnd,
    kOr,
    kBinary,
    kCompare,      // operands[0] operators[0] operands[1] operators[1] ...
    kConcatenate,  // ~
    kConditional,  // operands[0] if operands[1] else operands[2] or null
  };
  Kind kind = kConstant;
  int line = 0;
  int depth = 1;
  Symbol symbol = 0;  // kName
  NamePtr name;       // kName, kAttribute
  Value constant;
  std::vector<ExpressionPtr> operands;
  std::vector<Operator> operators;  // kBinary, kCompare
  // Of a call, filter or test: name=value, *list, **dict.
  std::vector<std::pair<NamePtr, ExpressionPtr>> named;
  ExpressionPtr star;
  ExpressionPtr double_star;
  const Filter* filter = nullptr;
  const Test* test = nullptr;
  const Method* method = nullptr;  // kAttribute: a method of this name
};

// What is assigned to.
struct Target {
  enum Kind : uint8_t { kName, kAttribute, kTuple };
  Kind kind = kName;
  Symbol symbol = 0;
  NamePtr name;       // of the symbol
  NamePtr attribute;  // of a namespace
  std::vector<Target> items;
};

// Of a macro, of a {% call %} block.
struct MacroBody {
  struct Parameter {
    Symbol symbol;
    NamePtr name;
    ExpressionPtr missing;  // the default; null: undefined
  };
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  // Whether the body speaks of these, and so takes what they would hold.
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  Symbol caller = 0;
  Symbol varargs = 0;
  Symbol kwargs = 0;
};

struct Statement {
  enum Kind : uint8_t {
    kText,
    kPrint,
    kSet,
    kSetBlock,
    kFor,
    kIf,
    kMacro,
    kCallBlock,
    kFilterBlock,
    kWith,
    kGeneration,
    kBreak,
    kContinue,
  };
  Kind kind = kText;
  int line = 0;
  std::string text;
  // kPrint, kSet: the value; kFor: what is gone through; kCallBlock: the
  // call; kSetBlock, kFilterBlock: filters, or null.
  ExpressionPtr value;
  ExpressionPtr condition;      // kFor: the filter, or null
  std::vector<Target> targets;  // kSet, kSetBlock, kFor: one; kWith: several
  std::vector<ExpressionPtr> values;  // kWith
  Block body;
  Block otherwise;          // kFor
  Symbol loop_symbol = -1;  // kFor: of `loop`
  // kIf: conditions and bodies; a null condition is `else`.
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  std::shared_ptr<const MacroBody> macro;  // kMacro, kCallBlock
};

struct Ast {
  Block body;
  std::vector<NamePtr> symbols;
};

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_AST_H_
