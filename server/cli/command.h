// The commands of `descant`. Each is one file with one function here, which
// adds the command to the command line.
#ifndef DESCANT_SERVER_CLI_COMMAND_H_
#define DESCANT_SERVER_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "server/cli/credentials.h"
#include "server/cli/exit_code.h"

namespace descant::cli {

// Options of every command.
struct GlobalOptions {
  std::string target = "127.0.0.1:50051";
  Credentials credentials;
  bool json = false;  // one JSON value on standard output
};

// Runs one command, after the command line was parsed.
using Command = std::function<ExitCode(const GlobalOptions&)>;

// Each adds its subcommand to `app`; parsing the command line then sets
// `*chosen` where the user chose it. REQUIRES: `chosen` outlives `app`.
void AddGenerateCommand(CLI::App* app, Command* chosen);
void AddChatCommand(CLI::App* app, Command* chosen);
void AddRunCommand(CLI::App* app, Command* chosen);
void AddTokenizeCommand(CLI::App* app, Command* chosen);
void AddModelsCommand(CLI::App* app, Command* chosen);
void AddAdaptersCommand(CLI::App* app, Command* chosen);
void AddAdminCommand(CLI::App* app, Command* chosen);
void AddMergesCommand(CLI::App* app, Command* chosen);
void AddTopCommand(CLI::App* app, Command* chosen);
void AddBenchCommand(CLI::App* app, Command* chosen);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_COMMAND_H_
