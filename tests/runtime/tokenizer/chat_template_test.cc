#include "runtime/tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include "runtime/base/reason.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

constexpr char kLoop[] = "{% for message in messages %}";
constexpr char kBody[] =
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}";
constexpr char kEndLoop[] = "{% endfor %}";
constexpr char kPrompt[] =
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Expected strings are Jinja's own (3.1, trim_blocks and lstrip_blocks, as
// Transformers sets them) for the same template and messages.
TEST(ChatTemplateTest, DemoModelsTemplateWithItsDefaultSystemMessage) {
  const auto chat = ChatTemplate::Parse(DemoVocabulary()->chat_template);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(
      chat->RenderChatMl({{"user", "Hi \"x\" <b>\n"}, {"assistant", ""}}, true),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi \"x\" "
      "<b>\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>"
      "assistant\n");
  EXPECT_EQ(chat->RenderChatMl({{"system", "S"}, {"user", "U"}}, false),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n");
  EXPECT_EQ(chat->RenderChatMl({}, true), "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, SpacingAndQuotesMayDiffer) {
  const auto chat = ChatTemplate::Parse(R"({% for message in messages %}
    {% if loop.first and messages[0].role != "system" -%}
    {{ '<|im_start|>system\nBe.<|im_end|>\n' }}
  {%- endif %}
{{- "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n" }}
{%- endfor %}

{%- if add_generation_prompt -%}
  {{ "<|im_start|>assistant\n" -}}
{% endif %}
)");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->RenderChatMl({{"user", "Hi"}}, true),
            "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>"
            "\n<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, WithoutDefaultSystemOrGenerationPrompt) {
  const auto chat = ChatTemplate::Parse(absl::StrCat(kLoop, kBody, kEndLoop));
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->default_system(), std::nullopt);
  EXPECT_EQ(chat->RenderChatMl({{"user", "Hi"}}, true),
            "<|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplateTest, EverythingElseIsRefusedWithItsReason) {
  const std::string good = absl::StrCat(kLoop, kBody, kEndLoop, kPrompt);
  ASSERT_TRUE(ChatTemplate::Parse(good).ok());
  const std::vector<std::string> bad = {
      "",
      "{{ bos_token }}" + good,
      good + "x",
      good + "{{ eos_token }}",
      absl::StrCat(kLoop, " ", kBody, kEndLoop, kPrompt),
      absl::StrCat(kLoop, kBody, kBody, kEndLoop, kPrompt),
      absl::StrCat(kLoop, "{# c #}", kBody, kEndLoop, kPrompt),
      absl::StrCat(kLoop, kBody),
      absl::StrCat(kLoop, "{{ message['content'] }}", kEndLoop),
      absl::StrCat(kLoop,
                   "{{'<|im_start|>' + message['role'] + '\\n' + "
                   "message['content'] | trim + '<|im_end|>' + '\\n'}}",
                   kEndLoop),
      absl::StrCat(kLoop, kBody, kEndLoop,
                   "{% if add_generation_prompt %}{{ '[/INST]' }}{% endif %}"),
      absl::StrCat(kLoop,
                   "{% if loop.first and messages[0]['role'] != 'system' %}"
                   "{{ 'You are' }}{% endif %}",
                   kBody, kEndLoop),
      "{% for message in messages",
      "{{ 'a",
      "{{ 'a\\",
      "{%",
      "{{",
      "{",
      "{{ '\\x41' }}",
      "[INST] {{ messages }} [/INST]",
  };
  for (const std::string& text : bad) {
    const auto chat = ChatTemplate::Parse(text);
    EXPECT_EQ(chat.status().code(), absl::StatusCode::kFailedPrecondition)
        << text;
    EXPECT_EQ(ReasonOf(chat.status()), "CHAT_TEMPLATE") << text;
  }
}

}  // namespace
}  // namespace descant
