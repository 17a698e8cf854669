// What follows a value: attributes, subscripts, calls, filters and tests.
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/expression_parser.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/tests.h"

namespace descant::jinja {

absl::StatusOr<ExpressionPtr> ExpressionParser::Postfix(ExpressionPtr node) {
  while (true) {
    if (IsOperator(".")) {
      DESCANT_ASSIGN_OR_RETURN(node, AfterDot(std::move(node)));
    } else if (IsOperator("[")) {
      DESCANT_ASSIGN_OR_RETURN(node, AfterBracket(std::move(node)));
    } else if (IsOperator("(")) {
      DESCANT_ASSIGN_OR_RETURN(node, Call(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::AfterDot(ExpressionPtr object) {
  ExpressionPtr node = Node(Kind::kAttribute);
  Take();
  node->operands.push_back(std::move(object));
  if (Is(Token::kInteger)) {
    node->kind = Kind::kSubscript;
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr index,
                             Constant(Value(current().integer)));
    Take();
    node->operands.push_back(std::move(index));
    return Finish(std::move(node));
  }
  DESCANT_ASSIGN_OR_RETURN(const std::string name, ExpectName());
  node->name = std::make_shared<const String>(String{name});
  node->method = FindMethod(name);
  if (node->method != nullptr && node->method->call == nullptr &&
      node->method->mutates == 0 && IsOperator("(")) {
    return Error(absl::StrCat("the method '", name, "' is not rendered"));
  }
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::AfterBracket(
    ExpressionPtr object) {
  ExpressionPtr node = Node(Kind::kSubscript);
  Take();
  node->operands.push_back(std::move(object));
  ExpressionPtr bounds[3];
  size_t bound = 0;
  while (!IsOperator("]")) {
    if (TakeOperator(":")) {
      if (++bound > 2) return Unexpected("']'");
      continue;
    }
    if (bounds[bound] != nullptr) return Unexpected("']'");
    DESCANT_ASSIGN_OR_RETURN(bounds[bound], Expression());
    if (IsOperator(",")) return Error("a subscript with several indices");
  }
  DESCANT_RETURN_IF_ERROR(ExpectOperator("]"));
  if (bound == 0 && bounds[0] == nullptr) {
    return Error("a subscript without an index");
  }
  node->operands.push_back(std::move(bounds[0]));
  if (bound > 0) {
    node->kind = Kind::kSlice;
    node->operands.push_back(std::move(bounds[1]));
    node->operands.push_back(std::move(bounds[2]));
  }
  return Finish(std::move(node));
}

absl::Status ExpressionParser::CallArguments(jinja::Expression* call) {
  DESCANT_RETURN_IF_ERROR(ExpectOperator("("));
  while (!IsOperator(")")) {
    if (TakeOperator("**")) {
      if (call->double_star != nullptr) return Unexpected("an argument");
      DESCANT_ASSIGN_OR_RETURN(call->double_star, Expression());
    } else if (TakeOperator("*")) {
      if (call->star != nullptr || call->double_star != nullptr) {
        return Unexpected("an argument");
      }
      DESCANT_ASSIGN_OR_RETURN(call->star, Expression());
    } else if (Is(Token::kName) && ahead().type == Token::kOperator &&
               ahead().text == "=") {
      if (call->double_star != nullptr) return Unexpected("an argument");
      auto name = std::make_shared<const String>(String{Take().text});
      Take();
      DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
      for (const auto& [other, unused] : call->named) {
        if (other->text == name->text) {
          return Error(absl::StrCat("the argument '", name->text, "' twice"));
        }
      }
      call->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (call->star != nullptr || call->double_star != nullptr ||
          !call->named.empty()) {
        return Error("a positional argument after one with a name");
      }
      DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
      call->operands.push_back(std::move(value));
    }
    if (!TakeOperator(",")) break;
  }
  return ExpectOperator(")");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Call(ExpressionPtr function) {
  ExpressionPtr node = Node(Kind::kCall);
  node->operands.push_back(std::move(function));
  DESCANT_RETURN_IF_ERROR(CallArguments(node.get()));
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::OneFilter(
    ExpressionPtr subject) {
  ExpressionPtr node = Node(Kind::kFilter);
  DESCANT_ASSIGN_OR_RETURN(const std::string name, ExpectName());
  node->filter = FindFilter(name);
  if (node->filter == nullptr) {
    return TemplateError(absl::StrCat("the filter '", name, "' is not known"),
                         node->line);
  }
  node->operands.push_back(std::move(subject));
  if (IsOperator("(")) DESCANT_RETURN_IF_ERROR(CallArguments(node.get()));
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::FilterChain(bool inline_first) {
  ExpressionPtr node;
  while (inline_first || TakeOperator("|")) {
    inline_first = false;
    DESCANT_ASSIGN_OR_RETURN(node, OneFilter(std::move(node)));
  }
  return node;
}

bool ExpressionParser::StartsTestArgument() const {
  switch (current().type) {
    case Token::kName:
      return !IsName("else") && !IsName("or") && !IsName("and");
    case Token::kString:
    case Token::kInteger:
    case Token::kFloat:
      return true;
    default:
      return IsOperator("[") || IsOperator("{");
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::OneTest(ExpressionPtr subject) {
  ExpressionPtr node = Node(Kind::kTest);
  const bool negated = TakeName("not");
  DESCANT_ASSIGN_OR_RETURN(const std::string name, ExpectName());
  node->test = FindTest(name);
  if (node->test == nullptr) {
    return TemplateError(absl::StrCat("the test '", name, "' is not known"),
                         node->line);
  }
  node->operands.push_back(std::move(subject));
  if (IsOperator("(")) {
    DESCANT_RETURN_IF_ERROR(CallArguments(node.get()));
  } else if (StartsTestArgument()) {
    if (IsName("is")) return Error("tests chained with 'is'");
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr argument, Primary());
    DESCANT_ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    node->operands.push_back(std::move(argument));
  }
  DESCANT_ASSIGN_OR_RETURN(node, Finish(std::move(node)));
  if (!negated) return node;
  ExpressionPtr not_node = Node(Kind::kNot);
  not_node->operands.push_back(std::move(node));
  return Finish(std::move(not_node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::FiltersAndTests(
    ExpressionPtr node) {
  while (true) {
    if (TakeOperator("|")) {
      DESCANT_ASSIGN_OR_RETURN(node, OneFilter(std::move(node)));
    } else if (TakeName("is")) {
      DESCANT_ASSIGN_OR_RETURN(node, OneTest(std::move(node)));
    } else if (IsOperator("(")) {
      DESCANT_ASSIGN_OR_RETURN(node, Call(std::move(node)));
    } else {
      return node;
    }
  }
}

}  // namespace descant::jinja
