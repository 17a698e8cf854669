#include "runtime/tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include "runtime/base/reason.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

ChatTemplate Parsed(const std::string& main, const std::string& tool_use = "") {
  auto chat = ChatTemplate::Parse({main, tool_use, {{"bos_token", "<s>"}}});
  EXPECT_TRUE(chat.ok()) << chat.status();
  return *std::move(chat);
}

Conversation Talk(std::vector<ChatMessage> messages) {
  Conversation conversation;
  conversation.messages = std::move(messages);
  return conversation;
}

// Expected strings are Jinja's own (3.1, trim_blocks and lstrip_blocks, as
// Transformers sets them) for the same template and messages.
TEST(ChatTemplateTest, DemoModelsTemplateWithItsDefaultSystemMessage) {
  const auto chat =
      ChatTemplate::Parse({DemoVocabulary()->chat_template, "", {}});
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(
      *chat->Render(Talk({{"user", "Hi \"x\" <b>\n"}, {"assistant", ""}})),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi \"x\" "
      "<b>\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>"
      "assistant\n");
  Conversation system = Talk({{"system", "S"}, {"user", "U"}});
  system.add_generation_prompt = false;
  EXPECT_EQ(*chat->Render(system),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n");
}

TEST(ChatTemplateTest, NoTemplateAndOneThatIsNotRenderedAreRefusedAtLoad) {
  for (const char* text : {"", "{% include 'x' %}", "{{ a | nofilter }}",
                           "{% for x in y recursive %}{% endfor %}",
                           "{{ ''.encode() }}", "{{ lipsum() }}", "{{"}) {
    const auto chat = ChatTemplate::Parse({text, "", {}});
    EXPECT_EQ(chat.status().code(), absl::StatusCode::kFailedPrecondition)
        << text;
    EXPECT_EQ(ReasonOf(chat.status()), "CHAT_TEMPLATE") << text;
  }
  const auto chat = ChatTemplate::Parse({"a\n{{ 1 }}\n{% include 'x' %}"});
  EXPECT_EQ(chat.status().message(),
            "the model's chat template is not served: line 3: the tag "
            "'include' is not rendered");
}

TEST(ChatTemplateTest, ToolsChooseTheToolUseTemplate) {
  const ChatTemplate chat =
      Parsed("plain{{ tools is none }}", "{{ bos_token }}{{ tools[0].name }}");
  Conversation conversation = Talk({{"user", "u"}});
  EXPECT_EQ(*chat.Render(conversation), "plainTrue");
  conversation.tools = {R"({"name": "f"})"};
  EXPECT_EQ(*chat.Render(conversation), "<s>f");
}

TEST(ChatTemplateTest, WhatIsUnsetIsUndefined) {
  const ChatTemplate chat = Parsed(
      "{% for m in messages %}{% for key in m %}{{ key }} {% endfor %};"
      "{% endfor %}{{ eos_token is defined }}");
  ChatMessage call;
  call.role = "assistant";
  call.tool_calls.push_back({"", "f", "{}"});
  ChatMessage bare;
  bare.role = "user";
  EXPECT_EQ(*chat.Render(Talk({bare, call})),
            "role content ;role tool_calls ;False");
}

TEST(ChatTemplateTest, ArgumentsAreTextWhereATemplateWantsText) {
  Conversation conversation = Talk({{"user", "u"}, {"assistant", ""}});
  conversation.messages[1].tool_calls.push_back({"", "f", R"({"x":1})"});
  constexpr char kHead[] = "{% for m in messages if m.tool_calls %}{{ ";
  constexpr char kTail[] = " }}{% endfor %}";
  EXPECT_EQ(
      *Parsed(absl::StrCat(kHead, "'a' + m.tool_calls[0].function.arguments",
                           kTail))
           .Render(conversation),
      "a{\"x\":1}");
  EXPECT_EQ(
      *Parsed(absl::StrCat(kHead, "m.tool_calls[0].function.arguments | tojson",
                           kTail))
           .Render(conversation),
      "{\"x\": 1}");
}

TEST(ChatTemplateTest, JsonTextsAreCheckedAndNamed) {
  const ChatTemplate chat = Parsed("{{ enable }}");
  const auto field_of = [&](const Conversation& conversation) {
    const auto text = chat.Render(conversation);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(text.status()), "FIELD_INVALID");
    return FieldOf(text.status());
  };
  Conversation good = Talk({{"user", "u"}});
  good.variables = R"({"enable": [1, {"a": null}]})";
  EXPECT_EQ(*chat.Render(good), "[1, {'a': None}]");
  for (const std::string bad :
       {"[1]", "{", "{} x", "{\"tools\": 1}", "{\"messages\": []}", "\"\xff\"",
        "{\"a\": 99999999999999999999}", "{\"a\": 9223372036854775808}",
        "{\"a\": 1e999}", "{\"a\": NaN}"}) {
    Conversation conversation = good;
    conversation.variables = bad;
    EXPECT_EQ(field_of(conversation), "messages.template_variables") << bad;
  }
  Conversation deep = good;
  deep.tools = {"{}", "{\"a\":" + std::string(100000, '[')};
  EXPECT_EQ(field_of(deep), "messages.tools[1]");
  deep.tools[1] = "{\"a\":" + std::string(70, '[') + std::string(70, ']') + "}";
  EXPECT_EQ(field_of(deep), "messages.tools[1]");
  Conversation call = good;
  call.messages.push_back({"assistant"});
  call.messages[1].tool_calls.push_back({"", "f", "\"text\""});
  EXPECT_EQ(field_of(call), "messages[1].tool_calls[0].arguments");
}

TEST(ChatTemplateTest, ContinuesTheFinalMessage) {
  constexpr char kBody[] =
      "{% for m in messages %}<{{ m.content }}>{% endfor %}";
  Conversation conversation = Talk({{"user", "u"}, {"assistant", "so "}});
  conversation.add_generation_prompt = false;
  conversation.continue_final_message = true;
  EXPECT_EQ(*Parsed(kBody).Render(conversation), "<u><so ");
  EXPECT_EQ(*Parsed("{% for m in messages %}<{{ m.content | trim }}>"
                    "{% endfor %}")
                 .Render(conversation),
            "<u><so");
  EXPECT_FALSE(Parsed("{{ messages[0].content }}").Render(conversation).ok());
  conversation.add_generation_prompt = true;
  EXPECT_FALSE(Parsed(kBody).Render(conversation).ok());
}

}  // namespace
}  // namespace descant
