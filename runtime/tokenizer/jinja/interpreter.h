// Renders a parsed template. One interpreter is one render.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "runtime/tokenizer/jinja/ast.h"
#include "runtime/tokenizer/jinja/callable.h"
#include "runtime/tokenizer/jinja/value.h"

namespace descant::jinja {

// strftime_now: a format to the text of the present local time.
using TimeFormatter = std::function<std::string(absl::string_view format)>;

// Names that are visible in a block and not outside.
struct Scope {
  Scope* parent = nullptr;
  absl::InlinedVector<std::pair<Symbol, Value>, 4> variables;
  bool captured = false;  // by a macro: lives as long as the render
};

// Not thread-safe; the tree outlives it.
class Interpreter {
 public:
  Interpreter(const Ast* ast, const TimeFormatter* time);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // A variable of the render; unknown names are not kept.
  void SetVariable(absl::string_view name, Value value);

  absl::StatusOr<std::string> Render();
  const Work& work() const { return work_; }

 private:
  // What a statement does to the loop around it.
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  // A scope inside the present one, for as long as it lives.
  class InnerScope;
  // An evaluation inside another.
  class Depth;

  absl::StatusOr<Flow> Run(const Block& block, std::string* out);
  absl::StatusOr<Flow> RunOne(const Statement& statement, std::string* out);
  absl::Status Print(const Statement& statement, std::string* out);
  absl::StatusOr<Flow> RunFor(const Statement& statement, std::string* out);
  absl::StatusOr<std::vector<Value>> LoopItems(const Statement& statement);
  absl::StatusOr<Flow> RunSetBlock(const Statement& statement);
  absl::StatusOr<Flow> RunFilterBlock(const Statement& statement,
                                      std::string* out);
  absl::StatusOr<Flow> RunWith(const Statement& statement, std::string* out);
  absl::Status RunCallBlock(const Statement& statement, std::string* out);
  absl::Status CheckOutput(const std::string& out) const;

  absl::Status Assign(const Target& target, Value value);
  const Value* Find(Symbol symbol) const;
  void Set(Symbol symbol, Value value);
  Value MakeMacro(const MacroBody* body);

  absl::StatusOr<Value> Evaluate(const Expression& expression);
  absl::StatusOr<Value> EvaluateHere(const Expression& expression);
  absl::StatusOr<Value> EvaluateName(const Expression& expression);
  absl::StatusOr<Value> EvaluateLiteral(const Expression& expression);
  absl::StatusOr<Value> EvaluateDict(const Expression& expression);
  absl::StatusOr<Value> EvaluateSlice(const Expression& expression);
  absl::StatusOr<Value> EvaluateCompare(const Expression& expression);
  absl::StatusOr<Value> EvaluateConcatenate(const Expression& expression);
  absl::StatusOr<Value> EvaluateConditional(const Expression& expression);
  absl::StatusOr<Value> EvaluateFilter(const Expression& expression);
  absl::StatusOr<Value> EvaluateTest(const Expression& expression);
  absl::StatusOr<Value> EvaluateCall(const Expression& expression,
                                     const Value* caller);
  absl::StatusOr<Arguments> EvaluateArguments(const Expression& expression);
  absl::StatusOr<Value> Call(const Value& function, Arguments arguments);
  absl::StatusOr<Value> CallMacro(const Callable& macro, Arguments arguments);
  absl::Status BindParameters(const MacroBody& macro, Arguments* arguments);
  absl::StatusOr<Value> CallFunction(Function function,
                                     const Arguments& arguments);
  absl::StatusOr<Value> CallDict(const Arguments& arguments);
  absl::StatusOr<Value> CallNamespace(const Arguments& arguments);
  absl::StatusOr<Value> CallRange(const Arguments& arguments);

  const Ast* const ast_;
  const TimeFormatter* const time_;
  Work work_;
  std::vector<Value> globals_;    // by symbol
  std::vector<bool> has_global_;  // by symbol
  Scope* scope_ = nullptr;        // null: the template's own
  Value block_text_;              // what a block's filters start from
  std::shared_ptr<const String> caller_name_;
  int depth_ = 0;
  std::vector<std::unique_ptr<Scope>> captured_;
  // To break their cycles at the end.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_H_
