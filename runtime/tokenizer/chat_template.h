// Conversations to prompts: the model's chat template, rendered as
// Transformers' apply_chat_template(tokenize=False) renders it, byte by byte.
#ifndef DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_
#define DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// What the model's files say. Texts empty: there is none.
struct ChatTemplateText {
  std::string main;
  // Instead, for conversations with tools.
  std::string tool_use;
  // "bos_token" and the like, as the template knows them.
  std::vector<std::pair<std::string, std::string>> special_tokens;
};

struct ToolCall {
  std::string id;  // empty: not told to the template
  std::string name;
  std::string arguments;  // JSON
};

// Texts are UTF-8. What is unset or empty is not told to the template, where
// `is defined` may ask for it, except a content that no tool call explains.
struct ChatMessage {
  std::string role;
  std::optional<std::string> content;
  std::string name;
  std::vector<ToolCall> tool_calls;
  std::string tool_call_id;
  std::optional<std::string> reasoning_content;
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::vector<std::string> tools;  // JSON objects; empty: none
  std::string variables;           // a JSON object; empty: none
  bool add_generation_prompt = true;
  // The last message is to be gone on with: the text ends where its content
  // does. Not together with add_generation_prompt.
  bool continue_final_message = false;
};

// Immutable; thread-safe; cheap to copy.
class ChatTemplate {
 public:
  // strftime_now(): a strftime format to a text.
  using Clock = std::function<std::string(absl::string_view format)>;

  // FAILED_PRECONDITION, reason CHAT_TEMPLATE: no template, or one that is not
  // rendered; the message names line and construct.
  static absl::StatusOr<ChatTemplate> Parse(const ChatTemplateText& text);

  // INVALID_ARGUMENT: the template raised an exception (its text is the
  // message) or failed, or a limit of jinja/limits.h was met (reason
  // CHAT_TEMPLATE_RENDER); or a JSON text of the conversation is none (reason
  // FIELD_INVALID, the field is named as in descant.v1.ChatMessages below
  // "messages").
  //
  // Texts are inserted as they are: the caller checks roles, and a content
  // that spells out a special token is a special token to
  // Tokenizer::Encode(parse_special), as it is with Transformers.
  absl::StatusOr<std::string> Render(const Conversation& conversation) const;
  absl::StatusOr<std::string> Render(const Conversation& conversation,
                                     const Clock& clock) const;

 private:
  struct Parsed;

  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed)
      : parsed_(std::move(parsed)) {}

  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_
