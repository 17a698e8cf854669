#include "server/chat_validation.h"

#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "server/limits.h"

namespace descant {
namespace {

constexpr ModelLimits kLimits = {
    .vocab_size = 100, .max_model_len = 64, .max_prompt_bytes = 1000};

using M = v1::ChatMessages;

M Good() {
  M chat;
  v1::ChatMessage* user = chat.add_messages();
  user->set_role("user");
  user->set_content("hi");
  v1::ChatMessage* assistant = chat.add_messages();
  assistant->set_role("assistant");
  v1::ToolCall* call = assistant->add_tool_calls();
  call->set_id("1");
  call->set_name("f");
  call->set_arguments(R"({"x": 1.50})");
  v1::ChatMessage* tool = chat.add_messages();
  tool->set_role("tool");
  tool->set_content("result");
  tool->set_tool_call_id("1");
  chat.add_tools(R"({"type": "function", "function": {"name": "f"}})");
  chat.set_template_variables(R"({"shout": true})");
  return chat;
}

ChatTemplate Template() {
  auto chat = ChatTemplate::Parse(
      {"{% for m in messages %}{{ m.role }}:{{ m.content | default('-') }}"
       "{% for c in m.tool_calls %}{{ c.id ~ c.function | tojson }}{% endfor %}"
       "{{ m.tool_call_id }};{% if m.content == 'boom' %}"
       "{{ raise_exception('no booms') }}{% endif %}"
       "{{ 'x' * 1000 if m.content == 'grow' }}{% endfor %}"
       "{{ tools[0].function.name if tools }}{{ '!' if shout }}"
       "{{ '>' if add_generation_prompt }}",
       "",
       {}});
  EXPECT_TRUE(chat.ok()) << chat.status();
  return *std::move(chat);
}

TEST(ChatValidationTest, AllOfAConversationReachesTheTemplate) {
  const ChatTemplate chat = Template();
  M messages = Good();
  EXPECT_EQ(*RenderMessages(messages, &chat, kLimits),
            "user:hi;assistant:-1{\"name\": \"f\", \"arguments\": {\"x\": 1.5}}"
            ";tool:result1;f!>");
  messages.set_add_generation_prompt(false);
  messages.clear_tools();
  messages.clear_template_variables();
  EXPECT_EQ(*RenderMessages(messages, &chat, kLimits),
            "user:hi;assistant:-1{\"name\": \"f\", \"arguments\": {\"x\": 1.5}}"
            ";tool:result1;");
}

struct Case {
  const char* name;
  std::function<void(M*)> change;
  const char* field;
  const char* reason;
};

class ChatValidationCase : public ::testing::TestWithParam<Case> {};

TEST_P(ChatValidationCase, IsRefused) {
  const ChatTemplate chat = Template();
  M messages = Good();
  GetParam().change(&messages);
  const auto prompt = RenderMessages(messages, &chat, kLimits);
  EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(prompt.status()), GetParam().field);
  EXPECT_EQ(ReasonOf(prompt.status()), GetParam().reason);
}

v1::ChatMessage* First(M* m) { return m->mutable_messages(0); }
v1::ToolCall* TheCall(M* m) {
  return m->mutable_messages(1)->mutable_tool_calls(0);
}

constexpr char kInvalid[] = "FIELD_INVALID";

INSTANTIATE_TEST_SUITE_P(
    Chat, ChatValidationCase,
    ::testing::Values(
        Case{"None", [](M* m) { m->clear_messages(); }, "messages",
             "PROMPT_EMPTY"},
        Case{"TooMany",
             [](M* m) {
               for (int i = 0; i < 256; ++i) *m->add_messages() = *First(m);
             },
             "messages", kInvalid},
        Case{"Role", [](M* m) { First(m)->set_role("root"); },
             "messages[0].role", kInvalid},
        Case{"NoRole", [](M* m) { First(m)->clear_role(); }, "messages[0].role",
             kInvalid},
        Case{"LongContent",
             [](M* m) { First(m)->set_content(std::string(1001, 'x')); },
             "messages[0].content", "PROMPT_TOO_LONG"},
        Case{"Nul", [](M* m) { First(m)->set_content(std::string(1, '\0')); },
             "messages[0].content", kInvalid},
        Case{"LongThought",
             [](M* m) {
               First(m)->set_reasoning_content(std::string(1000, 'x'));
             },
             "messages[0].reasoning_content", "PROMPT_TOO_LONG"},
        Case{"LongName",
             [](M* m) { First(m)->set_name(std::string(257, 'x')); },
             "messages[0].name", kInvalid},
        Case{"UserCalls",
             [](M* m) { First(m)->add_tool_calls()->set_name("f"); },
             "messages[0].tool_calls", kInvalid},
        Case{"ManyCalls",
             [](M* m) {
               for (int i = 0; i < 64; ++i) {
                 *m->mutable_messages(1)->add_tool_calls() = *TheCall(m);
               }
             },
             "messages[1].tool_calls", kInvalid},
        Case{"CallWithoutName", [](M* m) { TheCall(m)->clear_name(); },
             "messages[1].tool_calls[0].name", kInvalid},
        Case{"ArgumentsAreNoJson",
             [](M* m) { TheCall(m)->set_arguments("{x: 1}"); },
             "messages[1].tool_calls[0].arguments", kInvalid},
        Case{"ArgumentsAreNoObject",
             [](M* m) { TheCall(m)->set_arguments("[1]"); },
             "messages[1].tool_calls[0].arguments", kInvalid},
        Case{"ToolIsNoJson", [](M* m) { m->add_tools("{"); },
             "messages.tools[1]", kInvalid},
        Case{"ToolIsNoObject", [](M* m) { m->add_tools("1"); },
             "messages.tools[1]", kInvalid},
        Case{"DeepTool",
             [](M* m) {
               m->add_tools("{\"a\":" + std::string(64, '[') +
                            std::string(64, ']') + "}");
             },
             "messages.tools[1]", kInvalid},
        Case{"LongTool",
             [](M* m) { m->add_tools(std::string((64 << 10) + 1, ' ')); },
             "messages.tools[1]", kInvalid},
        Case{"LongTools",
             [](M* m) {
               for (int i = 0; i < 4; ++i) {
                 m->add_tools("{}" + std::string(65534, ' '));
               }
             },
             "messages.tools[4]", kInvalid},
        Case{"ManyTools",
             [](M* m) {
               for (int i = 0; i < 64; ++i) m->add_tools("{}");
             },
             "messages.tools", kInvalid},
        Case{"VariablesAreNoObject",
             [](M* m) { m->set_template_variables("[]"); },
             "messages.template_variables", kInvalid},
        Case{"VariablesTakeAName",
             [](M* m) { m->set_template_variables(R"({"messages": []})"); },
             "messages.template_variables", kInvalid},
        Case{"LongVariables",
             [](M* m) {
               m->set_template_variables(std::string((16 << 10) + 1, ' '));
             },
             "messages.template_variables", "FIELD_INVALID"},
        Case{"BothEnds",
             [](M* m) {
               m->set_add_generation_prompt(true);
               m->set_continue_final_message(true);
             },
             "messages.continue_final_message", kInvalid},
        Case{"Raises", [](M* m) { First(m)->set_content("boom"); }, "messages",
             "CHAT_TEMPLATE_RENDER"},
        Case{"Grows", [](M* m) { First(m)->set_content("grow"); }, "messages",
             "PROMPT_TOO_LONG"}),
    [](const auto& info) { return info.param.name; });

TEST(ChatValidationTest, WithoutATemplate) {
  const auto prompt = RenderMessages(Good(), nullptr, kLimits);
  EXPECT_EQ(prompt.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(prompt.status()), "CHAT_TEMPLATE");
}

TEST(ChatValidationTest, TheTemplatesOwnWordsAreTheMessage) {
  const ChatTemplate chat = Template();
  M messages = Good();
  First(&messages)->set_content("boom");
  EXPECT_EQ(RenderMessages(messages, &chat, kLimits).status().message(),
            "messages: no booms");
  First(&messages)->set_content("hi");
  messages.add_tools("[]");
  EXPECT_EQ(RenderMessages(messages, &chat, kLimits).status().message(),
            "messages.tools[1]: is not a JSON object");
}

}  // namespace
}  // namespace descant
