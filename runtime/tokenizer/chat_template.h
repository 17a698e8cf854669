// Chat prompts without a Jinja interpreter: templates of the ChatML family are
// recognised by their structure and rendered exactly; others are refused.
#ifndef DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_
#define DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace descant {

struct ChatMessage {
  std::string role;
  std::string content;
};

// A recognised ChatML template. Immutable value; thread-safe.
class ChatTemplate {
 public:
  // `text` is the model's Jinja template. Accepted is exactly: one loop over
  // the messages, in it at most one default system message when the first
  // message isn't one, each message as <|im_start|>role\ncontent<|im_end|>\n,
  // and the optional generation prompt <|im_start|>assistant\n. Anything else,
  // the empty text included: FAILED_PRECONDITION, reason CHAT_TEMPLATE.
  static absl::StatusOr<ChatTemplate> Parse(absl::string_view text);

  // Byte-equal to Transformers' apply_chat_template(tokenize=False). Roles and
  // contents are inserted as they are: the caller checks roles, and a content
  // that spells out a special token is a special token to
  // Tokenizer::Encode(parse_special).
  std::string RenderChatMl(absl::Span<const ChatMessage> messages,
                           bool add_generation_prompt) const;

  // The text put before a conversation that doesn't start with a system
  // message, markers included; none in templates without one.
  const std::optional<std::string>& default_system() const {
    return default_system_;
  }

 private:
  ChatTemplate(std::optional<std::string> default_system,
               bool has_generation_prompt)
      : default_system_(std::move(default_system)),
        has_generation_prompt_(has_generation_prompt) {}

  std::optional<std::string> default_system_;
  bool has_generation_prompt_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_CHAT_TEMPLATE_H_
