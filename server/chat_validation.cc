#include "server/chat_validation.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/unicode.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

bool IsKnownRole(absl::string_view role) {
  for (const absl::string_view known :
       {"system", "developer", "user", "assistant", "tool"}) {
    if (role == known) return true;
  }
  return false;
}

// Checks texts against what is left of the prompt's bytes.
class TextBudget {
 public:
  explicit TextBudget(uint64_t bytes) : left_(bytes) {}

  absl::Status Take(absl::string_view text, absl::string_view field) {
    DESCANT_RETURN_IF_ERROR(ValidateText(text, field, left_));
    left_ -= text.size();
    return absl::OkStatus();
  }

  // A name or an identifier.
  absl::Status TakeName(absl::string_view text, absl::string_view field) {
    if (text.size() > limits::kMaxChatNameBytes) {
      return FieldError(
          field,
          absl::StrCat("longer than ", limits::kMaxChatNameBytes, " bytes"));
    }
    return Take(text, field);
  }

 private:
  uint64_t left_;
};

absl::StatusOr<ToolCall> ReadToolCall(const v1::ToolCall& call,
                                      const std::string& field,
                                      TextBudget* budget) {
  if (call.name().empty()) {
    return FieldError(absl::StrCat(field, ".name"), "must not be empty");
  }
  DESCANT_RETURN_IF_ERROR(
      budget->TakeName(call.id(), absl::StrCat(field, ".id")));
  DESCANT_RETURN_IF_ERROR(
      budget->TakeName(call.name(), absl::StrCat(field, ".name")));
  DESCANT_RETURN_IF_ERROR(
      budget->Take(call.arguments(), absl::StrCat(field, ".arguments")));
  return ToolCall{call.id(), call.name(),
                  call.arguments().empty() ? "{}" : call.arguments()};
}

absl::StatusOr<ChatMessage> ReadMessage(const v1::ChatMessage& message,
                                        const std::string& field,
                                        TextBudget* budget) {
  if (!IsKnownRole(message.role())) {
    return FieldError(absl::StrCat(field, ".role"),
                      "must be system, developer, user, assistant or tool");
  }
  ChatMessage out;
  out.role = message.role();
  DESCANT_RETURN_IF_ERROR(
      budget->Take(message.content(), absl::StrCat(field, ".content")));
  if (message.has_content()) out.content = message.content();
  DESCANT_RETURN_IF_ERROR(
      budget->TakeName(message.name(), absl::StrCat(field, ".name")));
  out.name = message.name();
  DESCANT_RETURN_IF_ERROR(budget->TakeName(
      message.tool_call_id(), absl::StrCat(field, ".tool_call_id")));
  out.tool_call_id = message.tool_call_id();
  DESCANT_RETURN_IF_ERROR(budget->Take(
      message.reasoning_content(), absl::StrCat(field, ".reasoning_content")));
  if (message.has_reasoning_content()) {
    out.reasoning_content = message.reasoning_content();
  }
  const bool is_assistant = message.role() == "assistant";
  if (message.tool_calls_size() > 0 && !is_assistant) {
    return FieldError(absl::StrCat(field, ".tool_calls"),
                      "only an assistant calls tools");
  }
  if (message.tool_calls_size() > limits::kMaxToolCalls) {
    return FieldError(absl::StrCat(field, ".tool_calls"),
                      absl::StrCat("at most ", limits::kMaxToolCalls));
  }
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    DESCANT_ASSIGN_OR_RETURN(
        ToolCall call,
        ReadToolCall(message.tool_calls(i),
                     absl::StrCat(field, ".tool_calls[", i, "]"), budget));
    out.tool_calls.push_back(std::move(call));
  }
  return out;
}

absl::Status ReadTools(const v1::ChatMessages& chat, Conversation* out) {
  if (chat.tools_size() > limits::kMaxTools) {
    return FieldError("messages.tools",
                      absl::StrCat("at most ", limits::kMaxTools));
  }
  size_t left = limits::kMaxToolsBytes;
  for (int i = 0; i < chat.tools_size(); ++i) {
    const std::string field = absl::StrCat("messages.tools[", i, "]");
    const std::string& tool = chat.tools(i);
    if (tool.size() > limits::kMaxToolBytes || tool.size() > left) {
      return FieldError(field,
                        absl::StrCat("longer than ", limits::kMaxToolBytes,
                                     " bytes, or "
                                     "all tools than ",
                                     limits::kMaxToolsBytes));
    }
    left -= tool.size();
    DESCANT_RETURN_IF_ERROR(ValidateText(tool, field, tool.size()));
    out->tools.push_back(tool);
  }
  constexpr absl::string_view kVariables = "messages.template_variables";
  if (chat.template_variables().size() > limits::kMaxTemplateVariablesBytes) {
    return FieldError(
        kVariables, absl::StrCat("longer than ",
                                 limits::kMaxTemplateVariablesBytes, " bytes"));
  }
  DESCANT_RETURN_IF_ERROR(ValidateText(chat.template_variables(), kVariables,
                                       limits::kMaxTemplateVariablesBytes));
  out->variables = chat.template_variables();
  return absl::OkStatus();
}

absl::StatusOr<Conversation> ReadConversation(const v1::ChatMessages& chat,
                                              const ModelLimits& limits) {
  Conversation conversation;
  TextBudget budget(limits.max_prompt_bytes);
  for (int i = 0; i < chat.messages_size(); ++i) {
    DESCANT_ASSIGN_OR_RETURN(
        ChatMessage message,
        ReadMessage(chat.messages(i), absl::StrCat("messages[", i, "]"),
                    &budget));
    conversation.messages.push_back(std::move(message));
  }
  DESCANT_RETURN_IF_ERROR(ReadTools(chat, &conversation));
  conversation.continue_final_message = chat.continue_final_message();
  conversation.add_generation_prompt = chat.has_add_generation_prompt()
                                           ? chat.add_generation_prompt()
                                           : !chat.continue_final_message();
  if (conversation.add_generation_prompt && chat.continue_final_message()) {
    return FieldError("messages.continue_final_message",
                      "can't be together with add_generation_prompt");
  }
  return conversation;
}

}  // namespace

absl::Status ValidateText(absl::string_view text, absl::string_view field,
                          uint64_t max_bytes) {
  if (text.size() > max_bytes) {
    return FieldError(field,
                      absl::StrCat("longer than the ", max_bytes,
                                   " bytes that can fit into the context"),
                      reason::kPromptTooLong);
  }
  if (!IsValidUtf8(text)) {
    return FieldError(field, "is not valid UTF-8", reason::kNotUtf8);
  }
  if (text.find('\0') != absl::string_view::npos) {
    return FieldError(field, "holds a NUL character");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RenderMessages(const v1::ChatMessages& chat,
                                           const ChatTemplate* chat_template,
                                           const ModelLimits& limits) {
  if (chat.messages_size() == 0) {
    return FieldError("messages", "must not be empty", reason::kPromptEmpty);
  }
  if (chat.messages_size() > limits::kMaxChatMessages) {
    return FieldError("messages",
                      absl::StrCat("at most ", limits::kMaxChatMessages));
  }
  if (chat_template == nullptr) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition,
                         reason::kChatTemplate,
                         "the model has no chat template that this server "
                         "renders; send a text prompt",
                         "messages");
  }
  DESCANT_ASSIGN_OR_RETURN(const Conversation conversation,
                           ReadConversation(chat, limits));
  absl::StatusOr<std::string> prompt = chat_template->Render(conversation);
  if (!prompt.ok()) {
    if (!FieldOf(prompt.status()).empty()) return prompt.status();
    return FieldError("messages", prompt.status().message(),
                      ReasonOf(prompt.status()));
  }
  if (prompt->size() > limits.max_prompt_bytes) {
    return FieldError(
        "messages",
        absl::StrCat("rendered, longer than the ", limits.max_prompt_bytes,
                     " bytes that can fit into the context"),
        reason::kPromptTooLong);
  }
  return prompt;
}

}  // namespace descant
