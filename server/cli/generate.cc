// `descant generate`: one answer.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/cli/answer_stream.h"
#include "server/cli/chat_input.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/generation_options.h"
#include "server/cli/json_output.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

struct GenerateOptions {
  GenerationOptions generation;
  std::optional<std::string> prompt;
  std::vector<int64_t> prompt_ids;
  bool chat = false;
  std::optional<std::string> system;
  ChatInput input;
  v1::ChatMessages conversation;  // of `input`
  bool logprobs = false;
  std::optional<int32_t> top_logprobs;
  std::optional<int32_t> prompt_logprobs;
  bool echo = false;
  std::optional<int32_t> n;
  std::optional<int32_t> best_of;
};

void SetPrompt(const GenerateOptions& options, v1::GenerateRequest* request) {
  if (!options.prompt_ids.empty()) {
    request->mutable_token_ids()->mutable_ids()->Add(options.prompt_ids.begin(),
                                                     options.prompt_ids.end());
    return;
  }
  if (!options.chat && !options.input.messages_file) {
    // As bytes: the server says in its own words what is wrong with text that
    // is no UTF-8, where a string field would break the message.
    request->set_text_bytes(options.prompt.value_or(""));
    return;
  }
  v1::ChatMessages* messages = request->mutable_messages();
  *messages = options.conversation;
  if (options.input.messages_file) return;
  if (options.system) AddMessage("system", *options.system, messages);
  AddMessage("user", options.prompt.value_or(""), messages);
}

// Several answers, each under a line of its own.
void PrintChoices(const v1::GenerateResponse& response) {
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  for (const v1::Choice& choice : response.choices()) {
    const std::string& text = choice.text();
    std::printf("--- answer %u (%s)\n%s\n", choice.index(),
                FinishReasonName(choice.finish_reason()).c_str(),
                (terminal ? TerminalText(text) : text).c_str());
  }
}

ExitCode Generate(const GenerateOptions& options, const GlobalOptions& global) {
  v1::GenerateRequest request = MakeRequest(options.generation);
  SetPrompt(options, &request);
  if (options.n) request.set_n(*options.n);
  if (options.best_of) request.set_best_of(*options.best_of);
  if (options.echo) request.mutable_output()->set_echo(true);
  const Connection connection = Connect(global.target, global.credentials);
  const bool several = options.n.has_value() || options.best_of.has_value();
  if (!global.json && !several) {
    const grpc::Status status = StreamToTerminal(connection, options.generation,
                                                 request, /*answer=*/nullptr);
    if (!status.ok()) return ReportError(status, global.target);
    return kExitOk;
  }
  v1::OutputOptions* output = request.mutable_output();
  output->set_token_ids(global.json);
  if (options.logprobs) output->set_logprobs(true);
  if (options.top_logprobs) output->set_top_logprobs(*options.top_logprobs);
  if (options.prompt_logprobs) {
    output->set_prompt_logprobs(*options.prompt_logprobs);
  }
  grpc::ClientContext context;
  SetDeadline(options.generation, &context);
  v1::GenerateResponse response;
  const grpc::Status status =
      connection.generation->Generate(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson(AnswerJson(response));
  } else {
    PrintChoices(response);
  }
  return kExitOk;
}

}  // namespace

void AddGenerateCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app->add_subcommand(
      "generate", "Answer one prompt; the text streams to the terminal");
  auto* prompt = command->add_option("--prompt", options->prompt, "Text");
  auto* ids = command
                  ->add_option("--prompt-ids", options->prompt_ids,
                               "Token ids instead: 1,2,3")
                  ->delimiter(',')
                  ->excludes(prompt);
  command
      ->add_flag("--chat", options->chat,
                 "The prompt is a user's turn, in the model's chat template")
      ->excludes(ids);
  command->add_option("--system", options->system, "System turn, with --chat")
      ->needs("--chat");
  AddMessagesOption(command, &options->input);
  AddToolOptions(command, &options->input);
  AddGenerationOptions(command, &options->generation);
  command->add_flag("--logprobs", options->logprobs,
                    "With --json: log-probabilities of the chosen tokens");
  command->add_option("--top-logprobs", options->top_logprobs,
                      "With --json: and of the N likeliest at each position");
  command->add_option("--prompt-logprobs", options->prompt_logprobs,
                      "With --json: log-probabilities of the prompt's tokens, "
                      "and of the N likeliest at each position");
  command->add_flag("--echo", options->echo, "The prompt before the answer");
  command->add_option("--n", options->n, "Answers to give (do not stream)");
  command->add_option("--best-of", options->best_of,
                      "Answers to generate, of which the --n best are given");
  command->callback([options, chosen] {
    const bool has_prompt =
        options->prompt.has_value() || !options->prompt_ids.empty();
    if (has_prompt == options->input.messages_file.has_value()) {
      throw CLI::RequiredError("One of --prompt, --prompt-ids and --messages");
    }
    ReadChatInput(options->input, &options->conversation);
    *chosen = [options](const GlobalOptions& global) {
      return Generate(*options, global);
    };
  });
}

}  // namespace descant::cli
