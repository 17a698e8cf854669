#include "runtime/tokenizer/jinja/interpreter.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/interpreter_scope.h"
#include "runtime/tokenizer/jinja/limits.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/printing.h"

namespace descant::jinja {
namespace {

// A scope that a macro keeps costs as much as this many steps.
constexpr int64_t kCaptureSteps = 16;

}  // namespace

Interpreter::Interpreter(const Ast* ast, const TimeFormatter* time)
    : ast_(ast),
      time_(time),
      globals_(ast->symbols.size()),
      has_global_(ast->symbols.size(), false),
      caller_name_(std::make_shared<const String>(String{"caller"})) {
  static constexpr std::pair<absl::string_view, Function> kFunctions[] = {
      {"range", Function::kRange},
      {"dict", Function::kDict},
      {"namespace", Function::kNamespace},
      {"raise_exception", Function::kRaiseException},
      {"strftime_now", Function::kStrftimeNow}};
  for (const auto& [name, function] : kFunctions) {
    auto callable = std::make_shared<Callable>();
    callable->function = function;
    SetVariable(name, std::shared_ptr<const Callable>(std::move(callable)));
  }
}

Interpreter::~Interpreter() {
  for (const std::shared_ptr<Namespace>& name_space : namespaces_) {
    name_space->attributes.clear();
  }
}

void Interpreter::SetVariable(absl::string_view name, Value value) {
  for (size_t i = 0; i < ast_->symbols.size(); ++i) {
    if (ast_->symbols[i]->text != name) continue;
    globals_[i] = std::move(value);
    has_global_[i] = true;
    return;
  }
}

absl::StatusOr<std::string> Interpreter::Render() {
  std::string out;
  DESCANT_RETURN_IF_ERROR(Run(ast_->body, &out).status());
  return out;
}

const Value* Interpreter::Find(Symbol symbol) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [name, value] : scope->variables) {
      if (name == symbol) return &value;
    }
  }
  const auto index = static_cast<size_t>(symbol);
  return has_global_[index] ? &globals_[index] : nullptr;
}

void Interpreter::Set(Symbol symbol, Value value) {
  if (scope_ == nullptr) {
    globals_[static_cast<size_t>(symbol)] = std::move(value);
    has_global_[static_cast<size_t>(symbol)] = true;
    return;
  }
  for (auto& [name, old] : scope_->variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  scope_->variables.emplace_back(symbol, std::move(value));
}

absl::Status Interpreter::Assign(const Target& target, Value value) {
  switch (target.kind) {
    case Target::kName:
      Set(target.symbol, std::move(value));
      return absl::OkStatus();
    case Target::kAttribute: {
      const Value* object = Find(target.symbol);
      if (object == nullptr || !object->is(Kind::kNamespace)) {
        return RenderError("cannot assign attribute on non-namespace object");
      }
      object->name_space().Set(target.attribute->text, std::move(value));
      return work_.Steps(
          static_cast<int64_t>(object->name_space().attributes.size() / 8));
    }
    case Target::kTuple:
      break;
  }
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work_, value));
  if (items.size() != target.items.size()) {
    return RenderError(
        items.size() < target.items.size()
            ? absl::StrCat("not enough values to unpack (expected ",
                           target.items.size(), ", got ", items.size(), ")")
            : absl::StrCat("too many values to unpack (expected ",
                           target.items.size(), ")"));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    DESCANT_RETURN_IF_ERROR(Assign(target.items[i], std::move(items[i])));
  }
  return absl::OkStatus();
}

absl::Status Interpreter::CheckOutput(const std::string& out) const {
  if (out.size() <= kMaxOutputBytes) return absl::OkStatus();
  return RenderError(absl::StrCat("the chat template writes more than ",
                                  kMaxOutputBytes, " bytes"));
}

absl::StatusOr<Interpreter::Flow> Interpreter::Run(const Block& block,
                                                   std::string* out) {
  for (const Statement& statement : block) {
    if (statement.kind == Statement::kText) {
      DESCANT_RETURN_IF_ERROR(work_.Steps(1));
      DESCANT_RETURN_IF_ERROR(work_.Bytes(statement.text.size()));
      out->append(statement.text);
      DESCANT_RETURN_IF_ERROR(CheckOutput(*out));
      continue;
    }
    DESCANT_ASSIGN_OR_RETURN(const Flow flow, RunOne(statement, out));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunOne(
    const Statement& statement, std::string* out) {
  const Depth depth(this);
  DESCANT_RETURN_IF_ERROR(depth.Check());
  switch (statement.kind) {
    case Statement::kText:
      break;
    case Statement::kPrint:
      DESCANT_RETURN_IF_ERROR(Print(statement, out));
      break;
    case Statement::kSet: {
      DESCANT_ASSIGN_OR_RETURN(Value value, Evaluate(*statement.value));
      DESCANT_RETURN_IF_ERROR(Assign(statement.targets[0], std::move(value)));
      break;
    }
    case Statement::kSetBlock:
      return RunSetBlock(statement);
    case Statement::kFor:
      return RunFor(statement, out);
    case Statement::kIf:
      for (const auto& [condition, body] : statement.branches) {
        if (condition != nullptr) {
          DESCANT_ASSIGN_OR_RETURN(const Value value, Evaluate(*condition));
          if (!IsTrue(value)) continue;
        }
        return Run(body, out);
      }
      break;
    case Statement::kMacro: {
      DESCANT_RETURN_IF_ERROR(work_.Steps(kCaptureSteps));
      DESCANT_RETURN_IF_ERROR(
          Assign(statement.targets[0], MakeMacro(statement.macro.get())));
      break;
    }
    case Statement::kCallBlock:
      DESCANT_RETURN_IF_ERROR(RunCallBlock(statement, out));
      break;
    case Statement::kFilterBlock:
      return RunFilterBlock(statement, out);
    case Statement::kWith:
      return RunWith(statement, out);
    case Statement::kGeneration: {
      const InnerScope scope(this, scope_);
      return Run(statement.body, out);
    }
    case Statement::kBreak:
      return Flow::kBreak;
    case Statement::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::Status Interpreter::Print(const Statement& statement, std::string* out) {
  DESCANT_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.value));
  DESCANT_RETURN_IF_ERROR(AppendText(work_, value, out));
  return CheckOutput(*out);
}

absl::StatusOr<std::vector<Value>> Interpreter::LoopItems(
    const Statement& statement) {
  DESCANT_ASSIGN_OR_RETURN(const Value sequence, Evaluate(*statement.value));
  DESCANT_ASSIGN_OR_RETURN(std::vector<Value> items, Elements(work_, sequence));
  if (statement.condition == nullptr) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    const InnerScope scope(this, scope_);
    DESCANT_RETURN_IF_ERROR(Assign(statement.targets[0], item));
    DESCANT_ASSIGN_OR_RETURN(const Value holds, Evaluate(*statement.condition));
    if (IsTrue(holds)) kept.push_back(std::move(item));
  }
  return kept;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunFor(
    const Statement& statement, std::string* out) {
  auto loop = std::make_shared<Loop>();
  DESCANT_ASSIGN_OR_RETURN(loop->items, LoopItems(statement));
  if (loop->items.empty()) {
    const InnerScope scope(this, scope_);
    return Run(statement.otherwise, out);
  }
  Flow flow = Flow::kNext;
  for (size_t i = 0; i < loop->items.size() && flow != Flow::kBreak; ++i) {
    loop->index0 = i;
    const InnerScope scope(this, scope_);
    DESCANT_RETURN_IF_ERROR(work_.Steps(1));
    if (statement.loop_symbol >= 0) {
      Set(statement.loop_symbol, std::shared_ptr<const Loop>(loop));
    }
    DESCANT_RETURN_IF_ERROR(Assign(statement.targets[0], loop->items[i]));
    DESCANT_ASSIGN_OR_RETURN(flow, Run(statement.body, out));
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunSetBlock(
    const Statement& statement) {
  std::string text;
  {
    const InnerScope scope(this, scope_);
    DESCANT_ASSIGN_OR_RETURN(const Flow flow, Run(statement.body, &text));
    if (flow != Flow::kNext) return flow;
  }
  Value value = MakeString(std::move(text));
  if (statement.value != nullptr) {
    block_text_ = std::move(value);
    DESCANT_ASSIGN_OR_RETURN(value, Evaluate(*statement.value));
  }
  DESCANT_RETURN_IF_ERROR(Assign(statement.targets[0], std::move(value)));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunFilterBlock(
    const Statement& statement, std::string* out) {
  std::string text;
  {
    const InnerScope scope(this, scope_);
    DESCANT_ASSIGN_OR_RETURN(const Flow flow, Run(statement.body, &text));
    if (flow != Flow::kNext) return flow;
  }
  block_text_ = MakeString(std::move(text));
  DESCANT_RETURN_IF_ERROR(Print(statement, out));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunWith(
    const Statement& statement, std::string* out) {
  std::vector<Value> values;
  for (const ExpressionPtr& expression : statement.values) {
    DESCANT_ASSIGN_OR_RETURN(Value value, Evaluate(*expression));
    values.push_back(std::move(value));
  }
  const InnerScope scope(this, scope_);
  for (size_t i = 0; i < values.size(); ++i) {
    DESCANT_RETURN_IF_ERROR(Assign(statement.targets[i], std::move(values[i])));
  }
  return Run(statement.body, out);
}

absl::Status Interpreter::RunCallBlock(const Statement& statement,
                                       std::string* out) {
  DESCANT_RETURN_IF_ERROR(work_.Steps(kCaptureSteps));
  const Value caller = MakeMacro(statement.macro.get());
  DESCANT_ASSIGN_OR_RETURN(const Value value,
                           EvaluateCall(*statement.value, &caller));
  DESCANT_RETURN_IF_ERROR(AppendText(work_, value, out));
  return CheckOutput(*out);
}

Value Interpreter::MakeMacro(const MacroBody* body) {
  auto macro = std::make_shared<Callable>();
  macro->macro = body;
  macro->scope = scope_;
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    scope->captured = true;
  }
  return std::shared_ptr<const Callable>(std::move(macro));
}

}  // namespace descant::jinja
