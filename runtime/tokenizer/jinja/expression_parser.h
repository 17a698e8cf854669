// The expressions of a template, by jinja2's grammar. Private to parser.cc.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_EXPRESSION_PARSER_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_EXPRESSION_PARSER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/ast.h"
#include "runtime/tokenizer/jinja/lexer.h"

namespace descant::jinja {

// Reads the tokens of a template from front to back.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)) {}

  // The tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const {
    return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_];
  }
  bool Is(Token::Type type) const { return current().type == type; }
  bool IsName(absl::string_view name) const {
    return Is(Token::kName) && current().text == name;
  }
  bool IsOperator(absl::string_view symbol) const {
    return Is(Token::kOperator) && current().text == symbol;
  }
  Token Take();
  bool TakeName(absl::string_view name);
  bool TakeOperator(absl::string_view symbol);
  absl::Status Expect(Token::Type type, absl::string_view what);
  absl::Status ExpectOperator(absl::string_view symbol);
  absl::StatusOr<std::string> ExpectName();
  absl::Status Error(absl::string_view what) const;
  // The error of a token that does not belong here.
  absl::Status Unexpected(absl::string_view wanted) const;

  // One expression; several with commas are a tuple.
  absl::StatusOr<ExpressionPtr> Expression();
  absl::StatusOr<ExpressionPtr> ExpressionWithoutCondition();
  absl::StatusOr<ExpressionPtr> Tuple(bool with_condition);
  // `| filter | filter`, or, `inline_first`, `filter | filter`; null without.
  absl::StatusOr<ExpressionPtr> FilterChain(bool inline_first);

  Symbol SymbolOf(absl::string_view name);
  std::vector<NamePtr> TakeSymbols() { return std::move(symbols_); }

  // Which of a macro's special names were read since they were last cleared.
  struct SpecialNames {
    bool caller = false;
    bool varargs = false;
    bool kwargs = false;
  };
  SpecialNames special_names;

  // Counts nesting while it lives.
  class Nested {
   public:
    explicit Nested(ExpressionParser* parser) : parser_(parser) {
      ++parser_->nesting_;
    }
    ~Nested() { --parser_->nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    absl::Status Check() const;

   private:
    ExpressionParser* parser_;
  };

 private:
  using Kind = jinja::Expression::Kind;
  using Parse = absl::StatusOr<ExpressionPtr> (ExpressionParser::*)();

  ExpressionPtr Node(Kind kind) const;
  // Sets the depth.
  absl::StatusOr<ExpressionPtr> Finish(ExpressionPtr node) const;
  absl::StatusOr<ExpressionPtr> Constant(Value value);
  absl::StatusOr<ExpressionPtr> Binary(
      Parse operand,
      std::initializer_list<std::pair<absl::string_view, Operator>> operators);

  absl::StatusOr<ExpressionPtr> Or();
  absl::StatusOr<ExpressionPtr> And();
  absl::StatusOr<ExpressionPtr> Not();
  absl::StatusOr<ExpressionPtr> Compare();
  absl::StatusOr<ExpressionPtr> Sum();
  absl::StatusOr<ExpressionPtr> Concatenation();
  absl::StatusOr<ExpressionPtr> Product();
  absl::StatusOr<ExpressionPtr> Power();
  absl::StatusOr<ExpressionPtr> Unary();
  absl::StatusOr<ExpressionPtr> UnaryAt(bool with_filter);
  absl::StatusOr<ExpressionPtr> Primary();
  absl::StatusOr<ExpressionPtr> NameOrConstant();
  absl::StatusOr<ExpressionPtr> Parenthesised();
  absl::StatusOr<ExpressionPtr> ListLiteral();
  absl::StatusOr<ExpressionPtr> DictLiteral();
  absl::StatusOr<ExpressionPtr> Postfix(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> AfterDot(ExpressionPtr object);
  absl::StatusOr<ExpressionPtr> AfterBracket(ExpressionPtr object);
  absl::StatusOr<ExpressionPtr> Call(ExpressionPtr function);
  absl::StatusOr<ExpressionPtr> FiltersAndTests(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> OneFilter(ExpressionPtr subject);
  absl::StatusOr<ExpressionPtr> OneTest(ExpressionPtr subject);
  absl::Status CallArguments(jinja::Expression* call);
  // The operator the next tokens compare with, taken; none: left alone.
  bool TakeComparison(Operator* op);
  bool StartsTestArgument() const;
  bool EndsTuple() const;

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  absl::flat_hash_map<std::string, Symbol> symbol_of_;
  std::vector<NamePtr> symbols_;
};

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_EXPRESSION_PARSER_H_
