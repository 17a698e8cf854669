#include "server/cli/chat_input.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "server/cli/text.h"

namespace descant::cli {
namespace {

// Keeps the order of members: a template may print them.
using OrderedJson = nlohmann::ordered_json;

[[noreturn]] void Refuse(const std::string& option, const std::string& what) {
  throw CLI::ValidationError(option, what);
}

OrderedJson ReadJsonFile(const std::string& option, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Refuse(option, path + " can't be read");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  OrderedJson json = OrderedJson::parse(text, nullptr, false);
  if (json.is_discarded()) Refuse(option, path + " is not JSON");
  return json;
}

// A member that is a text; "" where it is missing or null.
std::string Text(const OrderedJson& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return "";
  if (!found->is_string()) {
    Refuse("--messages", std::string(name) + " must be a text");
  }
  return found->get<std::string>();
}

bool HasText(const OrderedJson& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

void ReadToolCall(const OrderedJson& json, v1::ToolCall* call) {
  const auto function = json.find("function");
  if (function == json.end() || !function->is_object()) {
    Refuse("--messages", "a tool call needs a function");
  }
  call->set_id(Text(json, "id"));
  call->set_name(Text(*function, "name"));
  const auto arguments = function->find("arguments");
  if (arguments != function->end()) {
    call->set_arguments(arguments->is_string() ? arguments->get<std::string>()
                                               : arguments->dump());
  }
}

void ReadMessage(const OrderedJson& json, v1::ChatMessage* message) {
  if (!json.is_object()) Refuse("--messages", "a message must be an object");
  message->set_role(Text(json, "role"));
  if (HasText(json, "content")) message->set_content(Text(json, "content"));
  message->set_name(Text(json, "name"));
  message->set_tool_call_id(Text(json, "tool_call_id"));
  if (HasText(json, "reasoning_content")) {
    message->set_reasoning_content(Text(json, "reasoning_content"));
  }
  const auto calls = json.find("tool_calls");
  if (calls == json.end() || calls->is_null()) return;
  if (!calls->is_array()) Refuse("--messages", "tool_calls must be a list");
  for (const OrderedJson& call : *calls) {
    if (!call.is_object()) Refuse("--messages", "a call must be an object");
    ReadToolCall(call, message->add_tool_calls());
  }
}

void ReadTools(const std::string& option, const OrderedJson& json,
               v1::ChatMessages* messages) {
  if (!json.is_array()) Refuse(option, "tools must be a list");
  for (const OrderedJson& tool : json) messages->add_tools(tool.dump());
}

}  // namespace

void AddMessagesOption(CLI::App* command, ChatInput* input) {
  command->add_option("--messages", input->messages_file,
                      "JSON file with a conversation: a list of messages, or "
                      "an object with messages and tools");
}

void AddToolOptions(CLI::App* command, ChatInput* input) {
  command->add_option("--tools", input->tools_file,
                      "JSON file with the functions the model may call: a "
                      "list, as its template wants them");
  command->add_option("--template-variables", input->template_variables,
                      "JSON object of variables of the chat template, for "
                      "instance {\"enable_thinking\": false}");
}

void ReadChatInput(const ChatInput& input, v1::ChatMessages* messages) {
  if (input.messages_file) {
    const OrderedJson json = ReadJsonFile("--messages", *input.messages_file);
    const OrderedJson* list = &json;
    if (json.is_object() && json.contains("messages")) {
      list = &json["messages"];
      if (json.contains("tools")) {
        ReadTools("--messages", json["tools"], messages);
      }
    }
    if (!list->is_array()) Refuse("--messages", "must be a list of messages");
    for (const OrderedJson& message : *list) {
      ReadMessage(message, messages->add_messages());
    }
  }
  if (input.tools_file) {
    ReadTools("--tools", ReadJsonFile("--tools", *input.tools_file), messages);
  }
  if (input.template_variables) {
    messages->set_template_variables(ToValidUtf8(*input.template_variables));
  }
}

}  // namespace descant::cli
