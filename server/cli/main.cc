// `descant`: the command-line client.
#include <cstdio>
#include <string>
#include <utility>

#include "server/cli/command.h"
#include "server/cli/credentials.h"

int main(int argc, char** argv) {
  using descant::cli::Command;
  using descant::cli::GlobalOptions;

  GlobalOptions options;
  Command chosen;
  CLI::App app("Talks to a Descant server.", "descant");
  app.footer(descant::cli::kExitCodeHelp);
  app.require_subcommand(1);
  // Global options may stand before or after the command.
  app.fallthrough();
  app.add_option("--target", options.target, "Server, HOST:PORT")
      ->envname("DESCANT_TARGET")
      ->capture_default_str();
  descant::cli::CredentialOptions credential_options;
  descant::cli::AddCredentialOptions(&app, &credential_options);
  app.add_flag("--json", options.json,
               "Print one JSON value on standard output");
  descant::cli::AddGenerateCommand(&app, &chosen);
  descant::cli::AddChatCommand(&app, &chosen);
  descant::cli::AddRunCommand(&app, &chosen);
  descant::cli::AddTokenizeCommand(&app, &chosen);
  descant::cli::AddModelsCommand(&app, &chosen);
  descant::cli::AddAdaptersCommand(&app, &chosen);
  descant::cli::AddAdminCommand(&app, &chosen);
  descant::cli::AddMergesCommand(&app, &chosen);
  descant::cli::AddTopCommand(&app, &chosen);
  descant::cli::AddBenchCommand(&app, &chosen);

  // The parser reports through exceptions; they end here.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? descant::cli::kExitOk
                                : descant::cli::kExitUsage;
  }
  absl::StatusOr<descant::cli::Credentials> credentials =
      descant::cli::LoadCredentials(credential_options);
  if (!credentials.ok()) {
    std::fprintf(stderr, "descant: %s\n",
                 std::string(credentials.status().message()).c_str());
    return absl::IsNotFound(credentials.status()) ? descant::cli::kExitNotFound
                                                  : descant::cli::kExitUsage;
  }
  options.credentials = *std::move(credentials);
  return chosen(options);
}
