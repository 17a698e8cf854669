// Hostile chat templates and conversations: the template up to a byte 0x1e,
// then a content, then, behind another 0x1e, JSON for tools and variables.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

void FuzzRender(const ChatTemplate& chat, const std::string& content,
                const std::string& json) {
  Conversation conversation;
  conversation.messages.push_back({"system", "Be brief."});
  conversation.messages.push_back({"user", content});
  conversation.messages.push_back({"assistant", content + " \n"});
  conversation.messages.back().tool_calls.push_back({"call00001", "f", "{}"});
  conversation.messages.push_back({"tool", json, "f", {}, "call00001"});
  conversation.messages.push_back({"assistant", content});
  if (!json.empty()) {
    conversation.tools = {json, R"({"type": "function"})"};
    conversation.variables = json;
  }
  for (const bool goes_on : {false, true}) {
    conversation.continue_final_message = goes_on;
    conversation.add_generation_prompt = !goes_on;
    const auto text = chat.Render(
        conversation, [](absl::string_view) { return std::string("now"); });
    if (text.ok()) {
      DESCANT_CHECK(IsValidUtf8(*text));
    } else {
      DESCANT_CHECK(text.status().code() == absl::StatusCode::kInvalidArgument);
      DESCANT_CHECK(!ReasonOf(text.status()).empty());
    }
  }
}

}  // namespace

void FuzzChatTemplate(absl::string_view input) {
  const std::vector<std::string> parts =
      absl::StrSplit(input, absl::MaxSplits('\x1e', 2));
  const auto chat = ChatTemplate::Parse({parts[0], "", {{"bos_token", "<s>"}}});
  if (!chat.ok()) {
    DESCANT_CHECK(chat.status().code() ==
                  absl::StatusCode::kFailedPrecondition);
    return;
  }
  const std::string content = parts.size() > 1 ? parts[1] : "";
  const std::string json = parts.size() > 2 ? parts[2] : "";
  // The edge lets nothing else in.
  if (!IsValidUtf8(content) || !IsValidUtf8(json)) return;
  FuzzRender(*chat, content, json);
}

}  // namespace descant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  descant::FuzzChatTemplate({reinterpret_cast<const char*>(data), size});
  return 0;
}
