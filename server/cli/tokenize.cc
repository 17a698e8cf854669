// `descant tokenize`: text to token ids, and back.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/cli/chat_input.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/table.h"

namespace descant::cli {
namespace {

struct TokenizeOptions {
  std::optional<std::string> text;
  std::vector<int64_t> ids;
  ChatInput input;
  v1::ChatMessages conversation;  // of `input`
};

ExitCode Encode(const TokenizeOptions& options, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::TokenizeRequest request;
  if (options.text) {
    request.set_text_bytes(*options.text);
  } else {
    *request.mutable_messages() = options.conversation;
  }
  v1::TokenizeResponse response;
  const grpc::Status status =
      connection.generation->Tokenize(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson(
        {{"token_ids", response.token_ids()}, {"pieces", response.pieces()}});
    return kExitOk;
  }
  Table table({{"id", Align::kRight}, {"piece"}});
  for (int i = 0; i < response.token_ids_size(); ++i) {
    // Quoted, so that spaces and line ends can be seen.
    table.AddRow(
        {absl::StrCat(response.token_ids(i)),
         i < response.pieces_size() ? Json(response.pieces(i)).dump() : ""});
  }
  std::fputs(table.Render().c_str(), stdout);
  return kExitOk;
}

ExitCode Decode(const std::vector<int64_t>& ids, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Add(ids.begin(), ids.end());
  request.set_skip_special_tokens(false);
  v1::DetokenizeResponse response;
  const grpc::Status status =
      connection.generation->Detokenize(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson({{"text", response.text()}});
  } else {
    std::printf("%s\n", response.text().c_str());
  }
  return kExitOk;
}

}  // namespace

void AddTokenizeCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app->add_subcommand(
      "tokenize", "Show the tokens of a text, or the text of token ids");
  auto* text = command->add_option("text", options->text, "Text");
  command->add_option("--ids", options->ids, "Token ids instead: 1,2,3")
      ->delimiter(',')
      ->excludes(text);
  AddMessagesOption(command, &options->input);
  AddToolOptions(command, &options->input);
  command->callback([options, chosen] {
    const bool has_text = options->text.has_value() || !options->ids.empty();
    if (has_text == options->input.messages_file.has_value()) {
      throw CLI::RequiredError("One of a text, --ids and --messages");
    }
    ReadChatInput(options->input, &options->conversation);
    *chosen = [options](const GlobalOptions& global) {
      return options->ids.empty() ? Encode(*options, global)
                                  : Decode(options->ids, global);
    };
  });
}

}  // namespace descant::cli
