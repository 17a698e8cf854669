// Conversations, tools and template variables from files and the command line.
#ifndef DESCANT_SERVER_CLI_CHAT_INPUT_H_
#define DESCANT_SERVER_CLI_CHAT_INPUT_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "descant/v1/common.pb.h"

namespace descant::cli {

struct ChatInput {
  std::optional<std::string> messages_file;
  std::optional<std::string> tools_file;
  std::optional<std::string> template_variables;
};

// --messages, --tools and --template-variables. REQUIRES: `input` outlives
// `command`.
void AddMessagesOption(CLI::App* command, ChatInput* input);
void AddToolOptions(CLI::App* command, ChatInput* input);

// Adds what the options name to `messages`. To be called from a command's
// callback: a file that can't be read or has another form is a
// CLI::ValidationError. A messages file is a JSON list of messages as OpenAI's
// API has them (arguments as text or as object), or an object with `messages`
// and perhaps `tools`; a tools file is a JSON list.
void ReadChatInput(const ChatInput& input, v1::ChatMessages* messages);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_CHAT_INPUT_H_
