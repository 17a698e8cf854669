// `descant merges`: what hot merge does, and what operators wish of it.
#include <cstdio>
#include <memory>
#include <string>

#include "server/cli/admin_options.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/merges_text.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

struct MergesOptions : AdminOptions {
  bool history = false;
};

using Options = std::shared_ptr<MergesOptions>;

ExitCode List(const MergesOptions& options, const GlobalOptions& global) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::ListMergesResponse merges;
  const grpc::Status status =
      options.Connect(global)->ListMerges(&context, {}, &merges);
  if (!status.ok()) return ReportError(status, options.target);
  if (global.json) {
    PrintJson(MergesJson(merges));
  } else {
    const std::string text =
        options.history ? RenderMergeHistory(merges) : RenderMerges(merges);
    std::fputs(text.c_str(), stdout);
  }
  return kExitOk;
}

ExitCode SetMode(v1::MergeMode mode, const MergesOptions& options,
                 const GlobalOptions& global) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::SetMergeModeRequest request;
  options.Fill(request.mutable_adapter());
  request.set_mode(mode);
  v1::SetMergeModeResponse response;
  const grpc::Status status =
      options.Connect(global)->SetMergeMode(&context, request, &response);
  if (!status.ok()) return ReportError(status, options.target);
  const v1::MergeStatus& now = response.status();
  if (global.json) {
    PrintJson(MergeJson(now));
  } else {
    std::printf("%s@%s: %s, %s (%s)\n", TerminalText(now.name()).c_str(),
                TerminalText(now.digest()).c_str(),
                MergeModeName(now.mode()).c_str(),
                MergeStateName(now.state()).c_str(),
                TerminalText(now.reason()).c_str());
  }
  return kExitOk;
}

void AddMode(CLI::App* merges, const char* name, const char* description,
             v1::MergeMode mode, const Options& options, Command* chosen) {
  CLI::App* command = merges->add_subcommand(name, description);
  AddAdapterReference(command, options.get());
  command->callback([options, mode, chosen] {
    *chosen = [options, mode](const GlobalOptions& global) {
      return SetMode(mode, *options, global);
    };
  });
}

}  // namespace

void AddMergesCommand(CLI::App* app, Command* chosen) {
  CLI::App* merges = app->add_subcommand(
      "merges", "Operators: which adapters are merged, and which may be");
  merges->require_subcommand(0, 1);
  const auto options = std::make_shared<MergesOptions>();
  AddAdminTarget(merges, options.get());
  merges->add_flag("--history", options->history,
                   "The last changes, oldest first");
  AddMode(merges, "pin", "Merge an adapter, whatever that saves",
          v1::MERGE_MODE_PINNED, options, chosen);
  AddMode(merges, "forbid", "Never merge an adapter", v1::MERGE_MODE_FORBIDDEN,
          options, chosen);
  AddMode(merges, "auto", "Merge an adapter where that was measured to pay",
          v1::MERGE_MODE_AUTO, options, chosen);
  // After those of subcommands.
  merges->callback([merges, options, chosen] {
    if (!merges->get_subcommands().empty()) return;
    *chosen = [options](const GlobalOptions& global) {
      return List(*options, global);
    };
  });
}

}  // namespace descant::cli
