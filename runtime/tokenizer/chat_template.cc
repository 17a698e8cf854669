#include "runtime/tokenizer/chat_template.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/json_value.h"
#include "runtime/tokenizer/jinja/template.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant {
namespace {

using jinja::Dict;
using jinja::Flavour;
using jinja::MakeDict;
using jinja::MakeList;
using jinja::MakeString;
using jinja::Value;

// Marks where the content to go on with ends. The blank is part of it:
// whether it survives says whether the template strips what follows.
constexpr absl::string_view kMark = "CONTINUE_FINAL_MESSAGE_TAG ";

absl::Status FieldInvalid(absl::string_view field, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "FIELD_INVALID",
                       absl::StrCat(field, ": ", what), field);
}

absl::StatusOr<Value> JsonField(absl::string_view text, absl::string_view field,
                                bool must_be_object) {
  absl::StatusOr<Value> value = jinja::ParseJson(text);
  if (!value.ok()) return FieldInvalid(field, value.status().message());
  if (must_be_object && !value->is(jinja::Kind::kDict)) {
    return FieldInvalid(field, "is not a JSON object");
  }
  return value;
}

void SetText(absl::string_view key, std::string text, Dict* dict) {
  dict->Set(MakeString(std::string(key)), MakeString(std::move(text)));
}

absl::StatusOr<Value> ToolCallValue(const ToolCall& call,
                                    absl::string_view field,
                                    bool arguments_as_text) {
  DESCANT_ASSIGN_OR_RETURN(
      Value arguments,
      JsonField(call.arguments, absl::StrCat(field, ".arguments"), true));
  Dict function;
  SetText("name", call.name, &function);
  function.Set(MakeString("arguments"), arguments_as_text
                                            ? MakeString(call.arguments)
                                            : std::move(arguments));
  DESCANT_ASSIGN_OR_RETURN(Value function_value, MakeDict(std::move(function)));
  Dict dict;
  if (!call.id.empty()) SetText("id", call.id, &dict);
  SetText("type", "function", &dict);
  dict.Set(MakeString("function"), std::move(function_value));
  return MakeDict(std::move(dict));
}

absl::StatusOr<Value> MessageValue(const ChatMessage& message,
                                   absl::string_view field,
                                   bool arguments_as_text) {
  Dict dict;
  SetText("role", message.role, &dict);
  if (message.content.has_value() || message.tool_calls.empty()) {
    SetText("content", message.content.value_or(""), &dict);
  }
  if (message.reasoning_content.has_value()) {
    SetText("reasoning_content", *message.reasoning_content, &dict);
  }
  if (!message.name.empty()) SetText("name", message.name, &dict);
  if (!message.tool_calls.empty()) {
    std::vector<Value> calls;
    for (size_t i = 0; i < message.tool_calls.size(); ++i) {
      DESCANT_ASSIGN_OR_RETURN(
          Value call, ToolCallValue(message.tool_calls[i],
                                    absl::StrCat(field, ".tool_calls[", i, "]"),
                                    arguments_as_text));
      calls.push_back(std::move(call));
    }
    DESCANT_ASSIGN_OR_RETURN(Value list,
                             MakeList(Flavour::kList, std::move(calls)));
    dict.Set(MakeString("tool_calls"), std::move(list));
  }
  if (!message.tool_call_id.empty()) {
    SetText("tool_call_id", message.tool_call_id, &dict);
  }
  return MakeDict(std::move(dict));
}

absl::StatusOr<Value> MessagesValue(const std::vector<ChatMessage>& messages,
                                    bool arguments_as_text) {
  std::vector<Value> values;
  for (size_t i = 0; i < messages.size(); ++i) {
    DESCANT_ASSIGN_OR_RETURN(
        Value value,
        MessageValue(messages[i], absl::StrCat("messages[", i, "]"),
                     arguments_as_text));
    values.push_back(std::move(value));
  }
  return MakeList(Flavour::kList, std::move(values));
}

using Variables = std::vector<std::pair<std::string, Value>>;

// Names that a client's variables may not take.
bool IsReserved(absl::string_view name) {
  for (const absl::string_view reserved :
       {"messages", "tools", "documents", "add_generation_prompt",
        "continue_final_message", "chat_template", "conversation"}) {
    if (name == reserved) return true;
  }
  return false;
}

absl::Status AddVariables(const std::string& json, Variables* variables) {
  if (json.empty()) return absl::OkStatus();
  constexpr absl::string_view kField = "messages.template_variables";
  DESCANT_ASSIGN_OR_RETURN(const Value object, JsonField(json, kField, true));
  for (const auto& [key, value] : object.dict().items()) {
    if (IsReserved(key.text())) {
      return FieldInvalid(
          kField, absl::StrCat("'", key.text(), "' has a field of its own"));
    }
    variables->emplace_back(key.text(), value);
  }
  return absl::OkStatus();
}

// Cuts `text` where the mark is.
absl::StatusOr<std::string> CutAtMark(std::string text,
                                      absl::string_view content) {
  const absl::string_view mark = absl::StripTrailingAsciiWhitespace(kMark);
  const size_t at = text.rfind(std::string(mark));
  if (at == std::string::npos ||
      !absl::StrContains(text,
                         jinja::Strip(content, std::nullopt, true, true))) {
    return jinja::RenderError(
        "continue_final_message: the chat template does not write the final "
        "message as it is");
  }
  const bool keeps_space =
      absl::StartsWith(absl::string_view(text).substr(at), kMark);
  text.resize(at);
  if (keeps_space) return text;
  return std::string(jinja::Strip(text, std::nullopt, false, true));
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Template main;
  std::optional<jinja::Template> tool_use;
  Variables special_tokens;
  // Whether the word "content" is in the text: to go on with a message, it has
  // to be.
  bool mentions_content = false;
  // A tool call's arguments as their JSON text: the template can't print an
  // object.
  bool arguments_as_text = false;
};

namespace {

// Whether a template prints a call with such arguments.
bool PrintsToolCall(const jinja::Template& text, const Variables& tokens,
                    bool arguments_as_text) {
  ChatMessage user;
  user.role = "user";
  user.content = "a";
  ChatMessage assistant;
  assistant.role = "assistant";
  assistant.content = "";
  assistant.tool_calls.push_back({"call00001", "f", R"({"a": "b"})"});
  const auto messages = MessagesValue({user, assistant}, arguments_as_text);
  if (!messages.ok()) return false;
  Variables variables = tokens;
  variables.emplace_back("messages", *messages);
  variables.emplace_back("tools", jinja::None());
  variables.emplace_back("add_generation_prompt", Value(false));
  return text.Render(variables, jinja::FormatLocalTime).ok();
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(const ChatTemplateText& text) {
  if (text.main.empty()) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition, "CHAT_TEMPLATE",
                         "the model has no chat template");
  }
  DESCANT_ASSIGN_OR_RETURN(jinja::Template main,
                           jinja::Template::Parse(text.main));
  auto parsed = std::make_shared<Parsed>(Parsed{std::move(main)});
  parsed->mentions_content = absl::StrContains(text.main, "content");
  if (!text.tool_use.empty()) {
    DESCANT_ASSIGN_OR_RETURN(parsed->tool_use,
                             jinja::Template::Parse(text.tool_use));
  }
  for (const auto& [name, token] : text.special_tokens) {
    parsed->special_tokens.emplace_back(name, MakeString(token));
  }
  const jinja::Template& calling =
      parsed->tool_use.has_value() ? *parsed->tool_use : parsed->main;
  parsed->arguments_as_text =
      !PrintsToolCall(calling, parsed->special_tokens, false) &&
      PrintsToolCall(calling, parsed->special_tokens, true);
  return ChatTemplate(std::move(parsed));
}

absl::StatusOr<std::string> ChatTemplate::Render(
    const Conversation& conversation) const {
  static const Clock* const local_time = new Clock(jinja::FormatLocalTime);
  return Render(conversation, *local_time);
}

absl::StatusOr<std::string> ChatTemplate::Render(
    const Conversation& conversation, const Clock& clock) const {
  std::vector<ChatMessage> continued;
  const std::vector<ChatMessage>* messages = &conversation.messages;
  std::string final_content;
  if (conversation.continue_final_message) {
    if (messages->empty() || !messages->back().content.has_value() ||
        !parsed_->mentions_content || conversation.add_generation_prompt) {
      return FieldInvalid("messages.continue_final_message",
                          "needs a final message with a content, and no "
                          "generation prompt");
    }
    continued = *messages;
    final_content = *continued.back().content;
    absl::StrAppend(&*continued.back().content, kMark);
    messages = &continued;
  }
  Variables variables = parsed_->special_tokens;
  DESCANT_RETURN_IF_ERROR(AddVariables(conversation.variables, &variables));
  DESCANT_ASSIGN_OR_RETURN(
      Value messages_value,
      MessagesValue(*messages, parsed_->arguments_as_text));
  Value tools{jinja::None()};
  if (!conversation.tools.empty()) {
    std::vector<Value> list;
    for (size_t i = 0; i < conversation.tools.size(); ++i) {
      DESCANT_ASSIGN_OR_RETURN(
          Value tool, JsonField(conversation.tools[i],
                                absl::StrCat("messages.tools[", i, "]"), true));
      list.push_back(std::move(tool));
    }
    DESCANT_ASSIGN_OR_RETURN(tools, MakeList(Flavour::kList, std::move(list)));
  }
  variables.emplace_back("messages", std::move(messages_value));
  variables.emplace_back("tools", std::move(tools));
  variables.emplace_back("documents", jinja::None());
  variables.emplace_back("add_generation_prompt",
                         Value(conversation.add_generation_prompt));
  const bool with_tools =
      !conversation.tools.empty() && parsed_->tool_use.has_value();
  const jinja::Template& chosen =
      with_tools ? *parsed_->tool_use : parsed_->main;
  DESCANT_ASSIGN_OR_RETURN(std::string text, chosen.Render(variables, clock));
  if (!conversation.continue_final_message) return text;
  return CutAtMark(std::move(text), final_content);
}

}  // namespace descant
