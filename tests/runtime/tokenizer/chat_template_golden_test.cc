// Whole chat templates on whole conversations against Transformers'
// apply_chat_template.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

#include "runtime/base/reason.h"
#include "runtime/tokenizer/chat_template.h"
#include "tests/runtime/tokenizer/jinja/golden_files.h"

namespace descant {
namespace {

using Json = nlohmann::ordered_json;

ChatMessage ReadMessage(const Json& json) {
  ChatMessage message;
  message.role = json["role"];
  if (json.contains("content")) message.content = json["content"];
  if (json.contains("reasoning_content")) {
    message.reasoning_content = json["reasoning_content"];
  }
  message.name = json.value("name", "");
  message.tool_call_id = json.value("tool_call_id", "");
  if (!json.contains("tool_calls")) return message;
  for (const Json& call : json["tool_calls"]) {
    message.tool_calls.push_back({call.value("id", ""),
                                  call["function"]["name"],
                                  call["function"]["arguments"].dump()});
  }
  return message;
}

Conversation ReadConversation(const Json& messages, const Json& variant) {
  Conversation conversation;
  for (const Json& message : messages) {
    conversation.messages.push_back(ReadMessage(message));
  }
  conversation.add_generation_prompt = variant["add_generation_prompt"];
  conversation.continue_final_message =
      variant.value("continue_final_message", false);
  if (variant.contains("tools")) {
    for (const Json& tool : variant["tools"]) {
      conversation.tools.push_back(tool.dump());
    }
  }
  if (variant.contains("variables")) {
    conversation.variables = variant["variables"].dump();
  }
  return conversation;
}

ChatTemplateText ReadText(const Json& family) {
  ChatTemplateText text;
  text.main = family["template"];
  for (const char* name : {"bos", "eos"}) {
    if (!family[name].is_null()) {
      text.special_tokens.emplace_back(std::string(name) + "_token",
                                       family[name].get<std::string>());
    }
  }
  return text;
}

void ExpectAsGolden(const absl::StatusOr<std::string>& text,
                    const Json& expected) {
  if (!expected[0].is_null()) {
    ASSERT_TRUE(text.ok()) << text.status() << " not " << expected[0];
    EXPECT_EQ(*text, expected[0].get<std::string>());
    return;
  }
  ASSERT_FALSE(text.ok()) << *text << " but " << expected[2];
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  if (expected[1] == "raised") {
    EXPECT_EQ(text.status().message(), expected[2].get<std::string>());
    EXPECT_EQ(ReasonOf(text.status()), "CHAT_TEMPLATE_RENDER");
  }
}

void ExpectAsGolden(const Json& golden, size_t families) {
  EXPECT_GE(golden["families"].size(), families);
  for (const Json& family : golden["families"]) {
    const auto chat = ChatTemplate::Parse(ReadText(family));
    if (!chat.ok()) {
      ADD_FAILURE() << family["name"] << ": " << chat.status();
      continue;
    }
    for (const auto& [label, results] : family["texts"].items()) {
      for (size_t i = 0; i < results.size(); ++i) {
        SCOPED_TRACE(family["name"].get<std::string>() + ", " + label + ", " +
                     golden["variants"][i].dump().substr(0, 120));
        ExpectAsGolden(
            chat->Render(ReadConversation(golden["conversations"][label],
                                          golden["variants"][i]),
                         StillClock),
            results[i]);
      }
    }
  }
}

TEST(ChatTemplateGoldenTest, RendersAsTransformersDoes) {
  ExpectAsGolden(ReadGolden("chat_templates.json"), 20);
}

// Models' own templates, which are not kept here: DESCANT_CHAT_TEMPLATES is the
// file that make_chat_templates.py writes of those it finds.
TEST(ChatTemplateGoldenTest, RendersTemplatesFromOutside) {
  const char* file = std::getenv("DESCANT_CHAT_TEMPLATES");
  if (file == nullptr) GTEST_SKIP() << "DESCANT_CHAT_TEMPLATES is not set";
  std::ifstream stream(file);
  ASSERT_TRUE(stream) << file;
  ExpectAsGolden(Json::parse(stream), 1);
}

TEST(ChatTemplateGoldenTest, AHundredMessagesInAMillisecond) {
  const Json golden = ReadGolden("chat_templates.json");
  for (const Json& family : golden["families"]) {
    const auto chat = ChatTemplate::Parse(ReadText(family));
    ASSERT_TRUE(chat.ok());
    Conversation conversation;
    for (int i = 0; i < 50; ++i) {
      conversation.messages.push_back({"user", std::string(200, 'q')});
      conversation.messages.push_back({"assistant", std::string(400, 'a')});
    }
    if (!chat->Render(conversation, StillClock).ok()) continue;
    const auto start = std::chrono::steady_clock::now();
    constexpr int kRepeats = 20;
    for (int i = 0; i < kRepeats; ++i) {
      ASSERT_TRUE(chat->Render(conversation, StillClock).ok());
    }
    const auto taken = std::chrono::duration<double, std::milli>(
                           std::chrono::steady_clock::now() - start)
                           .count() /
                       kRepeats;
    std::printf("%s: %.3f ms\n", family["name"].get<std::string>().c_str(),
                taken);
    // Far above what is measured: sanitizers and busy machines.
    EXPECT_LT(taken, 100) << family["name"];
  }
}

}  // namespace
}  // namespace descant
