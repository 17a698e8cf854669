// Private to the interpreter's files.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_SCOPE_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_SCOPE_H_

#include <memory>
#include <utility>

#include "runtime/tokenizer/jinja/interpreter.h"
#include "runtime/tokenizer/jinja/limits.h"

namespace descant::jinja {

class Interpreter::InnerScope {
 public:
  InnerScope(Interpreter* interpreter, Scope* parent)
      : interpreter_(interpreter),
        outer_(interpreter->scope_),
        scope_(std::make_unique<Scope>()) {
    scope_->parent = parent;
    interpreter_->scope_ = scope_.get();
  }
  ~InnerScope() {
    interpreter_->scope_ = outer_;
    if (scope_->captured) interpreter_->captured_.push_back(std::move(scope_));
  }
  InnerScope(const InnerScope&) = delete;
  InnerScope& operator=(const InnerScope&) = delete;

 private:
  Interpreter* interpreter_;
  Scope* outer_;
  std::unique_ptr<Scope> scope_;
};

class Interpreter::Depth {
 public:
  explicit Depth(Interpreter* interpreter) : interpreter_(interpreter) {
    ++interpreter_->depth_;
  }
  ~Depth() { --interpreter_->depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

  absl::Status Check() const {
    if (interpreter_->depth_ > kMaxEvaluationDepth) {
      return RenderError("the chat template calls itself too deeply");
    }
    return interpreter_->work_.Steps(1);
  }

 private:
  Interpreter* interpreter_;
};

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_INTERPRETER_SCOPE_H_
