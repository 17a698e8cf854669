#include "runtime/tokenizer/jinja/expression_parser.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/filters.h"
#include "runtime/tokenizer/jinja/limits.h"
#include "runtime/tokenizer/jinja/methods.h"
#include "runtime/tokenizer/jinja/tests.h"

namespace descant::jinja {
namespace {

NamePtr MakeName(absl::string_view text) {
  return std::make_shared<const String>(String{std::string(text)});
}

}  // namespace

Token ExpressionParser::Take() {
  Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::TakeName(absl::string_view name) {
  if (!IsName(name)) return false;
  Take();
  return true;
}

bool ExpressionParser::TakeOperator(absl::string_view symbol) {
  if (!IsOperator(symbol)) return false;
  Take();
  return true;
}

absl::Status ExpressionParser::Error(absl::string_view what) const {
  return TemplateError(what, current().line);
}

absl::Status ExpressionParser::Unexpected(absl::string_view wanted) const {
  std::string found;
  switch (current().type) {
    case Token::kEnd:
      found = "the end of the template";
      break;
    case Token::kData:
      found = "text";
      break;
    case Token::kVariableBegin:
    case Token::kBlockBegin:
      found = "a tag";
      break;
    case Token::kVariableEnd:
    case Token::kBlockEnd:
      found = "the end of the tag";
      break;
    default:
      found = absl::StrCat("'", current().text.substr(0, 40), "'");
  }
  return Error(absl::StrCat("expected ", wanted, ", found ", found));
}

absl::Status ExpressionParser::Expect(Token::Type type,
                                      absl::string_view what) {
  if (!Is(type)) return Unexpected(what);
  Take();
  return absl::OkStatus();
}

absl::Status ExpressionParser::ExpectOperator(absl::string_view symbol) {
  if (TakeOperator(symbol)) return absl::OkStatus();
  return Unexpected(absl::StrCat("'", symbol, "'"));
}

absl::StatusOr<std::string> ExpressionParser::ExpectName() {
  if (!Is(Token::kName)) return Unexpected("a name");
  return Take().text;
}

absl::Status ExpressionParser::Nested::Check() const {
  if (parser_->nesting_ <= kMaxNesting) return absl::OkStatus();
  return parser_->Error("nested too deeply");
}

Symbol ExpressionParser::SymbolOf(absl::string_view name) {
  const auto [entry, is_new] = symbol_of_.try_emplace(
      std::string(name), static_cast<Symbol>(symbols_.size()));
  if (is_new) symbols_.push_back(MakeName(name));
  return entry->second;
}

ExpressionPtr ExpressionParser::Node(Kind kind) const {
  auto node = std::make_unique<jinja::Expression>();
  node->kind = kind;
  node->line = current().line;
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Finish(
    ExpressionPtr node) const {
  const auto count = [&node](const ExpressionPtr& child) {
    if (child != nullptr) node->depth = std::max(node->depth, child->depth + 1);
  };
  for (const ExpressionPtr& operand : node->operands) count(operand);
  for (const auto& [name, value] : node->named) count(value);
  count(node->star);
  count(node->double_star);
  if (node->depth > kMaxExpressionDepth) {
    return TemplateError("an expression that is nested too deeply", node->line);
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Constant(Value value) {
  ExpressionPtr node = Node(Kind::kConstant);
  node->constant = std::move(value);
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Expression() {
  const Nested nested(this);
  DESCANT_RETURN_IF_ERROR(nested.Check());
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, Or());
  while (IsName("if")) {
    ExpressionPtr node = Node(Kind::kConditional);
    Take();
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr condition, Or());
    ExpressionPtr otherwise;
    if (TakeName("else")) {
      DESCANT_ASSIGN_OR_RETURN(otherwise, Expression());
    }
    node->operands.push_back(std::move(value));
    node->operands.push_back(std::move(condition));
    node->operands.push_back(std::move(otherwise));
    DESCANT_ASSIGN_OR_RETURN(value, Finish(std::move(node)));
  }
  return value;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ExpressionWithoutCondition() {
  const Nested nested(this);
  DESCANT_RETURN_IF_ERROR(nested.Check());
  return Or();
}

bool ExpressionParser::EndsTuple() const {
  return Is(Token::kVariableEnd) || Is(Token::kBlockEnd) || IsOperator(")") ||
         IsName("recursive");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Tuple(bool with_condition) {
  ExpressionPtr tuple = Node(Kind::kTuple);
  bool is_tuple = false;
  while (true) {
    if (EndsTuple()) break;
    DESCANT_ASSIGN_OR_RETURN(
        ExpressionPtr item,
        with_condition ? Expression() : ExpressionWithoutCondition());
    tuple->operands.push_back(std::move(item));
    if (!TakeOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return Finish(std::move(tuple));
  if (tuple->operands.empty()) return Unexpected("an expression");
  return std::move(tuple->operands[0]);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Or() {
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr left, And());
  while (IsName("or")) {
    ExpressionPtr node = Node(Kind::kOr);
    Take();
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr right, And());
    node->operands.push_back(std::move(left));
    node->operands.push_back(std::move(right));
    DESCANT_ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::And() {
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr left, Not());
  while (IsName("and")) {
    ExpressionPtr node = Node(Kind::kAnd);
    Take();
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr right, Not());
    node->operands.push_back(std::move(left));
    node->operands.push_back(std::move(right));
    DESCANT_ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Not() {
  if (!IsName("not")) return Compare();
  const Nested nested(this);
  DESCANT_RETURN_IF_ERROR(nested.Check());
  ExpressionPtr node = Node(Kind::kNot);
  Take();
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr operand, Not());
  node->operands.push_back(std::move(operand));
  return Finish(std::move(node));
}

bool ExpressionParser::TakeComparison(Operator* op) {
  static constexpr std::pair<absl::string_view, Operator> kOperators[] = {
      {"==", Operator::kEqual},        {"!=", Operator::kNotEqual},
      {"<=", Operator::kLessEqual},    {"<", Operator::kLess},
      {">=", Operator::kGreaterEqual}, {">", Operator::kGreater}};
  for (const auto& [symbol, meaning] : kOperators) {
    if (TakeOperator(symbol)) {
      *op = meaning;
      return true;
    }
  }
  if (TakeName("in")) {
    *op = Operator::kIn;
    return true;
  }
  if (IsName("not") && ahead().type == Token::kName && ahead().text == "in") {
    Take();
    Take();
    *op = Operator::kNotIn;
    return true;
  }
  return false;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Compare() {
  ExpressionPtr node = Node(Kind::kCompare);
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr first, Sum());
  node->operands.push_back(std::move(first));
  Operator op = Operator::kEqual;
  while (TakeComparison(&op)) {
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr operand, Sum());
    node->operators.push_back(op);
    node->operands.push_back(std::move(operand));
  }
  if (node->operators.empty()) return std::move(node->operands[0]);
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Binary(
    Parse operand,
    std::initializer_list<std::pair<absl::string_view, Operator>> operators) {
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr left, (this->*operand)());
  while (true) {
    const auto* found = std::find_if(
        operators.begin(), operators.end(),
        [this](const auto& entry) { return IsOperator(entry.first); });
    if (found == operators.end()) return left;
    ExpressionPtr node = Node(Kind::kBinary);
    Take();
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr right, (this->*operand)());
    node->operators.push_back(found->second);
    node->operands.push_back(std::move(left));
    node->operands.push_back(std::move(right));
    DESCANT_ASSIGN_OR_RETURN(left, Finish(std::move(node)));
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Sum() {
  return Binary(&ExpressionParser::Concatenation,
                {{"+", Operator::kAdd}, {"-", Operator::kSubtract}});
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Concatenation() {
  ExpressionPtr node = Node(Kind::kConcatenate);
  do {
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr operand, Product());
    node->operands.push_back(std::move(operand));
  } while (TakeOperator("~"));
  if (node->operands.size() == 1) return std::move(node->operands[0]);
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Product() {
  return Binary(&ExpressionParser::Power, {{"*", Operator::kMultiply},
                                           {"/", Operator::kDivide},
                                           {"//", Operator::kFloorDivide},
                                           {"%", Operator::kModulo}});
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Power() {
  return Binary(&ExpressionParser::Unary, {{"**", Operator::kPower}});
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Unary() {
  return UnaryAt(/*with_filter=*/true);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::UnaryAt(bool with_filter) {
  const Nested nested(this);
  DESCANT_RETURN_IF_ERROR(nested.Check());
  ExpressionPtr value;
  if (IsOperator("-") || IsOperator("+")) {
    ExpressionPtr node =
        Node(IsOperator("-") ? Kind::kNegative : Kind::kPositive);
    Take();
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr operand, UnaryAt(false));
    node->operands.push_back(std::move(operand));
    DESCANT_ASSIGN_OR_RETURN(value, Finish(std::move(node)));
  } else {
    DESCANT_ASSIGN_OR_RETURN(value, Primary());
  }
  DESCANT_ASSIGN_OR_RETURN(value, Postfix(std::move(value)));
  if (!with_filter) return value;
  return FiltersAndTests(std::move(value));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::NameOrConstant() {
  const std::string& text = current().text;
  if (text == "true" || text == "True") {
    Take();
    return Constant(Value(true));
  }
  if (text == "false" || text == "False") {
    Take();
    return Constant(Value(false));
  }
  if (text == "none" || text == "None") {
    Take();
    return Constant(Value(None()));
  }
  for (const absl::string_view name :
       {"lipsum", "cycler", "joiner", "self", "super"}) {
    if (text == name) {
      return Error(absl::StrCat("'", name, "' is not rendered"));
    }
  }
  special_names.caller |= text == "caller";
  special_names.varargs |= text == "varargs";
  special_names.kwargs |= text == "kwargs";
  ExpressionPtr node = Node(Kind::kName);
  node->symbol = SymbolOf(text);
  node->name = symbols_[static_cast<size_t>(node->symbol)];
  Take();
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Primary() {
  switch (current().type) {
    case Token::kName:
      return NameOrConstant();
    case Token::kString: {
      std::string text;
      DESCANT_ASSIGN_OR_RETURN(ExpressionPtr node, Constant(None()));
      while (Is(Token::kString)) text += Take().text;
      node->constant = MakeString(std::move(text));
      return node;
    }
    case Token::kInteger:
      return Constant(Value(Take().integer));
    case Token::kFloat:
      return Constant(Value(Take().real));
    default:
      break;
  }
  if (IsOperator("(")) return Parenthesised();
  if (IsOperator("[")) return ListLiteral();
  if (IsOperator("{")) return DictLiteral();
  return Unexpected("an expression");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Parenthesised() {
  ExpressionPtr empty = Node(Kind::kTuple);
  Take();
  if (TakeOperator(")")) return empty;
  DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, Tuple(true));
  DESCANT_RETURN_IF_ERROR(ExpectOperator(")"));
  return value;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ListLiteral() {
  ExpressionPtr node = Node(Kind::kList);
  Take();
  while (!IsOperator("]")) {
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr item, Expression());
    node->operands.push_back(std::move(item));
    if (!TakeOperator(",")) break;
  }
  DESCANT_RETURN_IF_ERROR(ExpectOperator("]"));
  return Finish(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::DictLiteral() {
  ExpressionPtr node = Node(Kind::kDict);
  Take();
  while (!IsOperator("}")) {
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr key, Expression());
    DESCANT_RETURN_IF_ERROR(ExpectOperator(":"));
    DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
    node->operands.push_back(std::move(key));
    node->operands.push_back(std::move(value));
    if (!TakeOperator(",")) break;
  }
  DESCANT_RETURN_IF_ERROR(ExpectOperator("}"));
  return Finish(std::move(node));
}

}  // namespace descant::jinja
