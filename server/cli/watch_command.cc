// `descant adapters watch`: what there is, then every change, until
// interrupted.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/cli/adapter_commands.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

void Print(const v1::WatchAdaptersResponse& change, bool as_json) {
  if (as_json) {
    Json json = {{"event", AdapterEventName(change.event())}};
    if (change.has_adapter()) json["adapter"] = AdapterJson(change.adapter());
    PrintJson(json);
  } else {
    std::printf("%s\n", RenderEvent(change).c_str());
  }
  // Whoever reads a pipe wants each line as it comes.
  std::fflush(stdout);
}

ExitCode Watch(const std::string& name, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  v1::WatchAdaptersRequest request;
  request.set_name(ToValidUtf8(name));
  const auto reader = connection.adapters->WatchAdapters(&context, request);
  v1::WatchAdaptersResponse change;
  while (reader->Read(&change)) {
    Print(change, global.json);
    if (std::ferror(stdout)) context.TryCancel();
  }
  const grpc::Status status = reader->Finish();
  return status.ok() ? kExitOk : ReportError(status, global.target);
}

}  // namespace

std::string RenderEvent(const v1::WatchAdaptersResponse& change) {
  std::string line = AdapterEventName(change.event());
  if (!change.has_adapter()) return line;
  const v1::Adapter& adapter = change.adapter();
  absl::StrAppend(&line, "  ", adapter.name());
  if (adapter.version() != 0) {
    absl::StrAppend(&line, "  version ", adapter.version());
  }
  absl::StrAppend(&line, "  ", adapter.digest());
  if (adapter.state() != v1::ADAPTER_STATE_UNSPECIFIED) {
    absl::StrAppend(&line, "  ", AdapterStateName(adapter.state()));
  }
  if (adapter.level() != v1::ADAPTER_LEVEL_UNSPECIFIED) {
    absl::StrAppend(&line, "  ", AdapterLevelName(adapter.level()));
  }
  if (adapter.pinned()) absl::StrAppend(&line, "  pinned");
  return TerminalText(line);
}

void AddWatchCommand(CLI::App* adapters, Command* chosen) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = adapters->add_subcommand(
      "watch", "Print your adapters, then every change to them");
  command->add_option("name", *name, "Only this one");
  command->callback([name, chosen] {
    *chosen = [name](const GlobalOptions& global) {
      return Watch(*name, global);
    };
  });
}

}  // namespace descant::cli
