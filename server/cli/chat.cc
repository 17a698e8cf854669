// `descant chat`: a conversation on the terminal.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "server/cli/answer_stream.h"
#include "server/cli/chat_input.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/generation_options.h"

namespace descant::cli {
namespace {

constexpr char kChatHelp[] =
    "/adapter NAME  answer with this adapter; without NAME: the base model\n"
    "/reset         forget the conversation\n"
    "/help          this list\n"
    "/exit          leave (or Ctrl-D)\n";

struct ChatOptions {
  GenerationOptions generation;
  std::optional<std::string> system;
  ChatInput input;
  v1::ChatMessages start;  // tools and variables
};

class Conversation {
 public:
  Conversation(const ChatOptions& options, const GlobalOptions& global)
      : options_(options),
        global_(global),
        connection_(Connect(global.target, global.credentials)) {
    Reset();
  }

  // False when the user leaves.
  bool Command(const std::string& line);

  // Sends the user's turn and prints the answer. A turn that failed is
  // forgotten, so that the user can try again.
  ExitCode Say(const std::string& line);

 private:
  void Reset() {
    messages_ = options_.start;
    if (options_.system) AddMessage("system", *options_.system, &messages_);
  }

  ChatOptions options_;
  const GlobalOptions global_;
  const Connection connection_;
  v1::ChatMessages messages_;
};

bool Conversation::Command(const std::string& line) {
  if (line == "/exit") return false;
  if (line == "/reset") {
    Reset();
  } else if (line == "/adapter" || absl::StartsWith(line, "/adapter ")) {
    const std::string name(
        absl::StripAsciiWhitespace(absl::StripPrefix(line, "/adapter")));
    options_.generation.adapter =
        name.empty() ? std::nullopt : std::make_optional(name);
  } else {
    std::fputs(kChatHelp, stderr);
  }
  return true;
}

ExitCode Conversation::Say(const std::string& line) {
  AddMessage("user", line, &messages_);
  v1::GenerateRequest request = MakeRequest(options_.generation);
  *request.mutable_messages() = messages_;
  std::string answer;
  const grpc::Status status =
      StreamToTerminal(connection_, options_.generation, request, &answer);
  if (!status.ok()) {
    messages_.mutable_messages()->RemoveLast();
    return ReportError(status, global_.target);
  }
  AddMessage("assistant", answer, &messages_);
  return kExitOk;
}

// On a terminal a failed turn is reported and the conversation goes on; from a
// pipe it ends.
ExitCode Chat(const ChatOptions& options, const GlobalOptions& global) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  Conversation conversation(options, global);
  if (terminal) std::fputs("/help lists the commands.\n", stderr);
  std::string line;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    if (line[0] == '/') {
      if (!conversation.Command(line)) break;
      continue;
    }
    const ExitCode code = conversation.Say(line);
    if (code != kExitOk && !terminal) return code;
  }
  return kExitOk;
}

}  // namespace

void AddChatCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* command = app->add_subcommand(
      "chat", "Talk to the model, one line a turn; /help lists its commands");
  command->add_option("--system", options->system, "System turn");
  AddToolOptions(command, &options->input);
  AddGenerationOptions(command, &options->generation);
  command->callback([options, chosen] {
    ReadChatInput(options->input, &options->start);
    *chosen = [options](const GlobalOptions& global) {
      return Chat(*options, global);
    };
  });
}

}  // namespace descant::cli
