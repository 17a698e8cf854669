// `descant adapters share`: who else may use an adapter.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/cli/adapter_commands.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

struct ShareOptions {
  std::string name;
  std::vector<std::string> tenants;
  bool all = false;
  bool nobody = false;
};

ExitCode Share(const ShareOptions& options, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::ShareAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(options.name));
  request.mutable_sharing()->set_all_tenants(options.all);
  for (const std::string& tenant : options.tenants) {
    request.mutable_sharing()->add_tenants(ToValidUtf8(tenant));
  }
  v1::ShareAdapterResponse response;
  const grpc::Status status =
      connection.adapters->ShareAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  const v1::Adapter& adapter = response.adapter();
  if (global.json) {
    PrintJson(AdapterJson(adapter));
  } else {
    std::printf("%s is shared with %s\n", adapter.name().c_str(),
                TerminalText(SharingText(adapter.sharing())).c_str());
  }
  return kExitOk;
}

}  // namespace

std::string SharingText(const v1::Sharing& sharing) {
  if (sharing.all_tenants()) return "all tenants";
  if (sharing.tenants().empty()) return "nobody";
  return absl::StrJoin(sharing.tenants(), " ");
}

void AddShareCommand(CLI::App* adapters, Command* chosen) {
  auto options = std::make_shared<ShareOptions>();
  CLI::App* command = adapters->add_subcommand(
      "share",
      "Say who else may use an adapter, as OWNER/NAME: those given, and nobody "
      "besides");
  command->add_option("name", options->name, "Name of your adapter")
      ->required();
  CLI::Option_group* whom = command->add_option_group("Whom", "One of these");
  whom->add_option("--with", options->tenants,
                   "A tenant's id; may be repeated, at most 64")
      ->allow_extra_args(false);  // what follows may be the name
  whom->add_flag("--all", options->all, "Every tenant of the server");
  whom->add_flag("--nobody", options->nobody, "End the sharing");
  whom->require_option(1);
  command->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return Share(*options, global);
    };
  });
}

}  // namespace descant::cli
