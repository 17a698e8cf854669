// The subcommands of `descant adapters` that have a file of their own.
#ifndef DESCANT_SERVER_CLI_ADAPTER_COMMANDS_H_
#define DESCANT_SERVER_CLI_ADAPTER_COMMANDS_H_

#include <string>

#include "descant/v1/adapter.pb.h"
#include "server/cli/command.h"

namespace descant::cli {

// Each adds its subcommand to `adapters`, as those of command.h do.
void AddUploadCommand(CLI::App* adapters, Command* chosen);
void AddDownloadCommand(CLI::App* adapters, Command* chosen);
void AddWatchCommand(CLI::App* adapters, Command* chosen);
void AddShareCommand(CLI::App* adapters, Command* chosen);

// Whom an adapter is shared with: "nobody", "all tenants", or their ids.
std::string SharingText(const v1::Sharing& sharing);

// One change as `watch` prints it, without the end of the line: event, name,
// and what is known of the version.
std::string RenderEvent(const v1::WatchAdaptersResponse& change);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ADAPTER_COMMANDS_H_
