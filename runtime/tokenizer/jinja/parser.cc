#include "runtime/tokenizer/jinja/parser.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/expression_parser.h"
#include "runtime/tokenizer/jinja/lexer.h"
#include "runtime/tokenizer/jinja/limits.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : in_(std::move(tokens)) {}

  absl::StatusOr<Ast> Run() {
    Ast ast;
    DESCANT_ASSIGN_OR_RETURN(ast.body, Body({}));
    ast.symbols = in_.TakeSymbols();
    return ast;
  }

 private:
  using Ends = std::initializer_list<absl::string_view>;

  // Statements up to a tag of `ends`, whose name is the next token then; to
  // the end of the template where there are none.
  absl::StatusOr<Block> Body(Ends ends) {
    const ExpressionParser::Nested nested(&in_);
    DESCANT_RETURN_IF_ERROR(nested.Check());
    Block block;
    while (!in_.Is(Token::kEnd)) {
      if (in_.Is(Token::kData)) {
        Statement text = New(Statement::kText);
        text.text = in_.Take().text;
        block.push_back(std::move(text));
      } else if (in_.Is(Token::kVariableBegin)) {
        in_.Take();
        Statement print = New(Statement::kPrint);
        DESCANT_ASSIGN_OR_RETURN(print.value, in_.Tuple(true));
        DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kVariableEnd, "'}}'"));
        block.push_back(std::move(print));
      } else {
        DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kBlockBegin, "a tag"));
        for (const absl::string_view end : ends) {
          if (in_.IsName(end)) return block;
        }
        DESCANT_RETURN_IF_ERROR(Tag(&block));
        DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kBlockEnd, "'%}'"));
      }
    }
    if (ends.size() > 0) {
      return in_.Unexpected(absl::StrCat("'", ends.begin()[0], "'"));
    }
    return block;
  }

  // The body after a tag, and its end tag but for the '%}'.
  absl::StatusOr<Block> BodyUntil(absl::string_view end) {
    DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kBlockEnd, "'%}'"));
    DESCANT_ASSIGN_OR_RETURN(Block block, Body({end}));
    in_.Take();
    return block;
  }

  Statement New(Statement::Kind kind) const {
    Statement statement;
    statement.kind = kind;
    statement.line = in_.current().line;
    return statement;
  }

  absl::Status Tag(Block* block) {
    if (!in_.Is(Token::kName)) return in_.Unexpected("the name of a tag");
    using Read = absl::Status (Parser::*)(Statement*);
    struct Known {
      absl::string_view name;
      Statement::Kind kind;
      Read read;
    };
    static constexpr Known kTags[] = {
        {"set", Statement::kSet, &Parser::Set},
        {"for", Statement::kFor, &Parser::For},
        {"if", Statement::kIf, &Parser::If},
        {"macro", Statement::kMacro, &Parser::Macro},
        {"call", Statement::kCallBlock, &Parser::CallBlock},
        {"filter", Statement::kFilterBlock, &Parser::FilterBlock},
        {"with", Statement::kWith, &Parser::With},
        {"generation", Statement::kGeneration, &Parser::Generation},
        {"break", Statement::kBreak, &Parser::LoopControl},
        {"continue", Statement::kContinue, &Parser::LoopControl},
    };
    for (const Known& tag : kTags) {
      if (!in_.IsName(tag.name)) continue;
      Statement statement = New(tag.kind);
      in_.Take();
      DESCANT_RETURN_IF_ERROR((this->*tag.read)(&statement));
      block->push_back(std::move(statement));
      return absl::OkStatus();
    }
    if (in_.IsName("print")) {
      in_.Take();
      return Print(block);
    }
    return in_.Error(
        absl::StrCat("the tag '", in_.current().text, "' is not rendered"));
  }

  absl::Status Print(Block* block) {
    while (!in_.Is(Token::kBlockEnd)) {
      Statement print = New(Statement::kPrint);
      DESCANT_ASSIGN_OR_RETURN(print.value, in_.Expression());
      block->push_back(std::move(print));
      if (!in_.TakeOperator(",")) break;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Target> OneTarget(bool with_namespace) {
    const ExpressionParser::Nested nested(&in_);
    DESCANT_RETURN_IF_ERROR(nested.Check());
    if (in_.TakeOperator("(")) {
      DESCANT_ASSIGN_OR_RETURN(Target tuple, Targets(with_namespace));
      DESCANT_RETURN_IF_ERROR(in_.ExpectOperator(")"));
      return tuple;
    }
    Target target;
    DESCANT_ASSIGN_OR_RETURN(const std::string name, in_.ExpectName());
    for (const absl::string_view constant :
         {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) return in_.Error("an assignment to a constant");
    }
    target.symbol = in_.SymbolOf(name);
    target.name = std::make_shared<const String>(String{name});
    if (with_namespace && in_.TakeOperator(".")) {
      target.kind = Target::kAttribute;
      DESCANT_ASSIGN_OR_RETURN(const std::string attribute, in_.ExpectName());
      target.attribute = std::make_shared<const String>(String{attribute});
    }
    return target;
  }

  absl::StatusOr<Target> Targets(bool with_namespace) {
    Target tuple;
    tuple.kind = Target::kTuple;
    DESCANT_ASSIGN_OR_RETURN(Target first, OneTarget(with_namespace));
    if (!in_.IsOperator(",")) return first;
    tuple.items.push_back(std::move(first));
    while (in_.TakeOperator(",")) {
      if (in_.IsOperator(")") || in_.Is(Token::kBlockEnd)) break;
      if (!with_namespace && in_.IsName("in")) break;
      DESCANT_ASSIGN_OR_RETURN(Target next, OneTarget(with_namespace));
      tuple.items.push_back(std::move(next));
    }
    return tuple;
  }

  absl::Status Set(Statement* set) {
    DESCANT_ASSIGN_OR_RETURN(Target target, Targets(true));
    set->targets.push_back(std::move(target));
    if (in_.TakeOperator("=")) {
      DESCANT_ASSIGN_OR_RETURN(set->value, in_.Tuple(true));
      return absl::OkStatus();
    }
    set->kind = Statement::kSetBlock;
    DESCANT_ASSIGN_OR_RETURN(set->value, in_.FilterChain(false));
    DESCANT_ASSIGN_OR_RETURN(set->body, BodyUntil("endset"));
    return absl::OkStatus();
  }

  absl::Status For(Statement* loop) {
    loop->loop_symbol = in_.SymbolOf("loop");
    DESCANT_ASSIGN_OR_RETURN(Target target, Targets(false));
    loop->targets.push_back(std::move(target));
    if (!in_.TakeName("in")) return in_.Unexpected("'in'");
    DESCANT_ASSIGN_OR_RETURN(loop->value, in_.Tuple(false));
    if (in_.TakeName("if")) {
      DESCANT_ASSIGN_OR_RETURN(loop->condition, in_.Expression());
    }
    if (in_.IsName("recursive")) {
      return in_.Error("a recursive loop is not rendered");
    }
    DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kBlockEnd, "'%}'"));
    ++loops_;
    DESCANT_ASSIGN_OR_RETURN(loop->body, Body({"endfor", "else"}));
    --loops_;
    if (in_.Take().text == "else") {
      DESCANT_ASSIGN_OR_RETURN(loop->otherwise, BodyUntil("endfor"));
    }
    return absl::OkStatus();
  }

  absl::Status If(Statement* branch) {
    bool is_else = false;
    while (true) {
      ExpressionPtr condition;
      if (!is_else) {
        DESCANT_ASSIGN_OR_RETURN(condition, in_.Tuple(false));
      }
      DESCANT_RETURN_IF_ERROR(in_.Expect(Token::kBlockEnd, "'%}'"));
      DESCANT_ASSIGN_OR_RETURN(
          Block body,
          is_else ? Body({"endif"}) : Body({"endif", "else", "elif"}));
      branch->branches.emplace_back(std::move(condition), std::move(body));
      const std::string end = in_.Take().text;
      if (end == "endif") return absl::OkStatus();
      is_else = end == "else";
    }
  }

  absl::Status Signature(MacroBody* macro) {
    DESCANT_RETURN_IF_ERROR(in_.ExpectOperator("("));
    bool has_defaults = false;
    while (!in_.IsOperator(")")) {
      MacroBody::Parameter parameter;
      DESCANT_ASSIGN_OR_RETURN(const std::string name, in_.ExpectName());
      parameter.symbol = in_.SymbolOf(name);
      parameter.name = std::make_shared<const String>(String{name});
      if (in_.TakeOperator("=")) {
        has_defaults = true;
        DESCANT_ASSIGN_OR_RETURN(parameter.missing, in_.Expression());
      } else if (has_defaults) {
        return in_.Error("a parameter without a default after one with it");
      }
      macro->parameters.push_back(std::move(parameter));
      if (!in_.TakeOperator(",")) break;
    }
    return in_.ExpectOperator(")");
  }

  // A body that is called: loops outside are out of its reach.
  absl::StatusOr<Block> CalledBody(absl::string_view end, MacroBody* macro) {
    const int loops = std::exchange(loops_, 0);
    const auto outer = std::exchange(in_.special_names, {});
    DESCANT_ASSIGN_OR_RETURN(Block body, BodyUntil(end));
    loops_ = loops;
    if (macro != nullptr) {
      macro->uses_caller = in_.special_names.caller;
      macro->uses_varargs = in_.special_names.varargs;
      macro->uses_kwargs = in_.special_names.kwargs;
      macro->caller = in_.SymbolOf("caller");
      macro->varargs = in_.SymbolOf("varargs");
      macro->kwargs = in_.SymbolOf("kwargs");
    }
    in_.special_names.caller |= outer.caller;
    in_.special_names.varargs |= outer.varargs;
    in_.special_names.kwargs |= outer.kwargs;
    return body;
  }

  absl::Status Macro(Statement* statement) {
    auto macro = std::make_shared<MacroBody>();
    DESCANT_ASSIGN_OR_RETURN(macro->name, in_.ExpectName());
    Target target;
    target.symbol = in_.SymbolOf(macro->name);
    target.name = std::make_shared<const String>(String{macro->name});
    statement->targets.push_back(std::move(target));
    DESCANT_RETURN_IF_ERROR(Signature(macro.get()));
    DESCANT_ASSIGN_OR_RETURN(macro->body, CalledBody("endmacro", macro.get()));
    statement->macro = std::move(macro);
    return absl::OkStatus();
  }

  absl::Status CallBlock(Statement* statement) {
    auto macro = std::make_shared<MacroBody>();
    macro->name = "caller";
    if (in_.IsOperator("(")) DESCANT_RETURN_IF_ERROR(Signature(macro.get()));
    DESCANT_ASSIGN_OR_RETURN(statement->value, in_.Expression());
    if (statement->value->kind != Expression::kCall) {
      return in_.Error("a call block without a call");
    }
    DESCANT_ASSIGN_OR_RETURN(macro->body, CalledBody("endcall", macro.get()));
    statement->macro = std::move(macro);
    return absl::OkStatus();
  }

  absl::Status FilterBlock(Statement* statement) {
    DESCANT_ASSIGN_OR_RETURN(statement->value, in_.FilterChain(true));
    DESCANT_ASSIGN_OR_RETURN(statement->body, BodyUntil("endfilter"));
    return absl::OkStatus();
  }

  absl::Status With(Statement* statement) {
    while (!in_.Is(Token::kBlockEnd)) {
      if (!statement->targets.empty()) {
        DESCANT_RETURN_IF_ERROR(in_.ExpectOperator(","));
      }
      DESCANT_ASSIGN_OR_RETURN(Target target, Targets(false));
      DESCANT_RETURN_IF_ERROR(in_.ExpectOperator("="));
      DESCANT_ASSIGN_OR_RETURN(ExpressionPtr value, in_.Expression());
      statement->targets.push_back(std::move(target));
      statement->values.push_back(std::move(value));
    }
    DESCANT_ASSIGN_OR_RETURN(statement->body, BodyUntil("endwith"));
    return absl::OkStatus();
  }

  absl::Status Generation(Statement* statement) {
    DESCANT_ASSIGN_OR_RETURN(statement->body,
                             CalledBody("endgeneration", nullptr));
    return absl::OkStatus();
  }

  absl::Status LoopControl(Statement* statement) {
    if (loops_ > 0) return absl::OkStatus();
    return in_.Error("a 'break' or 'continue' outside of a loop");
  }

  ExpressionParser in_;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Ast> ParseTemplate(absl::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return TemplateError(
        absl::StrCat("it is longer than ", kMaxTemplateBytes, " bytes"), 1);
  }
  if (!IsUtf8(source)) return TemplateError("it is not valid UTF-8", 1);
  DESCANT_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace descant::jinja
