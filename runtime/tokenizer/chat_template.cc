#include "runtime/tokenizer/chat_template.h"

#include <initializer_list>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kSystemStart = "<|im_start|>system\n";
constexpr absl::string_view kEnd = "<|im_end|>\n";
constexpr absl::string_view kGenerationPrompt = "<|im_start|>assistant\n";

absl::Status Refused(absl::string_view why) {
  return ReasonedError(absl::StatusCode::kFailedPrecondition, "CHAT_TEMPLATE",
                       absl::StrCat("the model's chat template is not a ChatML "
                                    "template that is served: ",
                                    why));
}

// A lexical element of Jinja. Tags and all that is inside them; text between
// tags only where it would be printed.
struct Lexeme {
  enum Kind { kText, kString, kSymbol };
  Kind kind;
  std::string value;  // of a string: unescaped, without quotes
};

// Cuts a template into lexemes. Transformers runs Jinja with trim_blocks and
// lstrip_blocks: white space around a {% %} tag, up to its own line, is gone.
class Lexer {
 public:
  explicit Lexer(absl::string_view text) : text_(text) {
    // Jinja drops one newline at the end.
    absl::ConsumeSuffix(&text_, "\n");
  }

  absl::StatusOr<std::vector<Lexeme>> Run() {
    while (position_ < text_.size()) {
      DESCANT_RETURN_IF_ERROR(Text());
      if (position_ < text_.size()) DESCANT_RETURN_IF_ERROR(Tag());
    }
    return std::move(lexemes_);
  }

 private:
  // What a tag does to the text after it.
  enum class Trim { kNothing, kNewline, kAll };

  absl::string_view rest() const { return text_.substr(position_); }

  absl::Status Text() {
    size_t end = position_;
    while (end < text_.size() && !absl::StartsWith(text_.substr(end), "{%") &&
           !absl::StartsWith(text_.substr(end), "{{") &&
           !absl::StartsWith(text_.substr(end), "{#")) {
      ++end;
    }
    absl::string_view text = text_.substr(position_, end - position_);
    const absl::string_view tag = text_.substr(end);
    if (absl::StartsWith(tag, "{#")) return Refused("it has a comment");
    const bool at_line_start = position_ == 0;
    position_ = end;
    bool after_newline = at_line_start;
    if (trim_ == Trim::kAll) {
      text = absl::StripLeadingAsciiWhitespace(text);
    } else if (trim_ == Trim::kNewline) {
      after_newline |= absl::ConsumePrefix(&text, "\n");
    }
    if (absl::StartsWith(tag, "{%-") || absl::StartsWith(tag, "{{-")) {
      text = absl::StripTrailingAsciiWhitespace(text);
    } else if (absl::StartsWith(tag, "{%") && !absl::StartsWith(tag, "{%+")) {
      size_t blank = text.size();
      while (blank > 0 && (text[blank - 1] == ' ' || text[blank - 1] == '\t')) {
        --blank;
      }
      if (blank == 0 ? after_newline : text[blank - 1] == '\n') {
        text = text.substr(0, blank);
      }
    }
    if (!text.empty()) lexemes_.push_back({Lexeme::kText, std::string(text)});
    return absl::OkStatus();
  }

  absl::Status Tag() {
    const bool is_block = rest()[1] == '%';
    const absl::string_view close = is_block ? "%}" : "}}";
    lexemes_.push_back({Lexeme::kSymbol, is_block ? "{%" : "{{"});
    position_ += 2;
    if (absl::StartsWith(rest(), "-")) ++position_;
    while (position_ < text_.size()) {
      if (absl::StartsWith(rest(), close) ||
          absl::StartsWith(rest(), absl::StrCat("-", close))) {
        trim_ = rest()[0] == '-' ? Trim::kAll
                                 : (is_block ? Trim::kNewline : Trim::kNothing);
        position_ += close.size() + (rest()[0] == '-' ? 1 : 0);
        lexemes_.push_back({Lexeme::kSymbol, std::string(close)});
        return absl::OkStatus();
      }
      DESCANT_RETURN_IF_ERROR(InsideTag());
    }
    return Refused("a tag is not closed");
  }

  absl::Status InsideTag() {
    const char c = rest()[0];
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) {
      ++position_;
      return absl::OkStatus();
    }
    if (c == '\'' || c == '"') return String(c);
    size_t length = 1;
    const auto is_word = [&](size_t i) {
      return i < rest().size() &&
             (absl::ascii_isalnum(static_cast<unsigned char>(rest()[i])) ||
              rest()[i] == '_');
    };
    if (is_word(0)) {
      while (is_word(length)) ++length;
    } else if (absl::StartsWith(rest(), "!=") ||
               absl::StartsWith(rest(), "==")) {
      length = 2;
    }
    lexemes_.push_back(
        {Lexeme::kSymbol, std::string(rest().substr(0, length))});
    position_ += length;
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    std::string value;
    ++position_;
    while (position_ < text_.size() && text_[position_] != quote) {
      char c = text_[position_++];
      if (c == '\\') {
        if (position_ == text_.size()) break;
        const char escaped = text_[position_++];
        switch (escaped) {
          case 'n':
            c = '\n';
            break;
          case 't':
            c = '\t';
            break;
          case '\\':
          case '\'':
          case '"':
            c = escaped;
            break;
          default:
            return Refused("a string has an unusual escape");
        }
      }
      value.push_back(c);
    }
    if (position_ == text_.size()) return Refused("a string is not closed");
    ++position_;
    lexemes_.push_back({Lexeme::kString, std::move(value)});
    return absl::OkStatus();
  }

  absl::string_view text_;
  size_t position_ = 0;
  Trim trim_ = Trim::kNothing;
  std::vector<Lexeme> lexemes_;
};

// Reads lexemes against what a ChatML template says.
class Reader {
 public:
  explicit Reader(std::vector<Lexeme> lexemes) : lexemes_(std::move(lexemes)) {}

  bool done() const { return position_ == lexemes_.size(); }

  // Consumes these symbols, all or none.
  bool Symbols(std::initializer_list<absl::string_view> symbols) {
    size_t at = position_;
    for (const absl::string_view symbol : symbols) {
      if (at == lexemes_.size() || lexemes_[at].kind != Lexeme::kSymbol ||
          lexemes_[at].value != symbol) {
        return false;
      }
      ++at;
    }
    position_ = at;
    return true;
  }

  // message['role'] or message.role, messages[0]['role'] or messages[0].role.
  bool Field(std::initializer_list<absl::string_view> object,
             absl::string_view field) {
    const size_t start = position_;
    if (Symbols(object)) {
      if (Symbols({".", field})) return true;
      if (Symbols({"["}) && String(field) && Symbols({"]"})) return true;
    }
    position_ = start;
    return false;
  }

  bool String(absl::string_view value) {
    if (done() || lexemes_[position_].kind != Lexeme::kString ||
        lexemes_[position_].value != value) {
      return false;
    }
    ++position_;
    return true;
  }

  std::optional<std::string> AnyString() {
    if (done() || lexemes_[position_].kind != Lexeme::kString) {
      return std::nullopt;
    }
    return lexemes_[position_++].value;
  }

  // '<|im_start|>' + message['role'] + '\n' + message['content'] +
  // '<|im_end|>' + '\n', the last two perhaps as one string.
  bool MessageBody() {
    return Symbols({"{{"}) && String("<|im_start|>") && Symbols({"+"}) &&
           Field({"message"}, "role") && Symbols({"+"}) && String("\n") &&
           Symbols({"+"}) && Field({"message"}, "content") && Symbols({"+"}) &&
           (String("<|im_end|>\n") ||
            (String("<|im_end|>") && Symbols({"+"}) && String("\n"))) &&
           Symbols({"}}"});
  }

  // {% if loop.first and messages[0]['role'] != 'system' %}{{ text }}
  // {% endif %}. False: not there; `*text` stays empty.
  bool DefaultSystem(std::optional<std::string>* text) {
    const size_t start = position_;
    if (Symbols({"{%", "if", "loop", ".", "first", "and"}) &&
        Field({"messages", "[", "0", "]"}, "role") && Symbols({"!="}) &&
        String("system") && Symbols({"%}", "{{"})) {
      *text = AnyString();
      if (text->has_value() && Symbols({"}}", "{%", "endif", "%}"})) {
        return true;
      }
    }
    text->reset();
    position_ = start;
    return false;
  }

 private:
  std::vector<Lexeme> lexemes_;
  size_t position_ = 0;
};

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(absl::string_view text) {
  if (text.empty()) return Refused("it is empty");
  // Jinja would normalise it.
  if (absl::StrContains(text, "\r")) return Refused("it has a \\r");
  DESCANT_ASSIGN_OR_RETURN(std::vector<Lexeme> lexemes, Lexer(text).Run());
  Reader reader(std::move(lexemes));
  if (!reader.Symbols({"{%", "for", "message", "in", "messages", "%}"})) {
    return Refused("it does not begin with a loop over the messages");
  }
  std::optional<std::string> default_system;
  if (reader.DefaultSystem(&default_system) &&
      !(absl::StartsWith(*default_system, kSystemStart) &&
        absl::EndsWith(*default_system, kEnd))) {
    return Refused("its default message is not a system message");
  }
  if (!reader.MessageBody() || !reader.Symbols({"{%", "endfor", "%}"})) {
    return Refused("its messages are not written as in ChatML");
  }
  bool has_generation_prompt = false;
  if (reader.Symbols({"{%", "if", "add_generation_prompt", "%}"})) {
    has_generation_prompt = true;
    if (!reader.Symbols({"{{"}) || !reader.String(kGenerationPrompt) ||
        !reader.Symbols({"}}", "{%", "endif", "%}"})) {
      return Refused("its generation prompt is not that of ChatML");
    }
  }
  if (!reader.done()) return Refused("it goes on after the generation prompt");
  return ChatTemplate(std::move(default_system), has_generation_prompt);
}

std::string ChatTemplate::RenderChatMl(absl::Span<const ChatMessage> messages,
                                       bool add_generation_prompt) const {
  std::string text;
  if (default_system_.has_value() && !messages.empty() &&
      messages[0].role != "system") {
    text = *default_system_;
  }
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&text, "<|im_start|>", message.role, "\n", message.content,
                    kEnd);
  }
  if (add_generation_prompt && has_generation_prompt_) {
    absl::StrAppend(&text, kGenerationPrompt);
  }
  return text;
}

}  // namespace descant
