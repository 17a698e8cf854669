// `descant admin`: what operators do with adapters, on the admin listener.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "descant/v1/admin.grpc.pb.h"
#include "server/cli/admin_options.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/progress_bar.h"

namespace descant::cli {
namespace {

struct CommandOptions : AdminOptions {
  bool host = false;
};

using Options = std::shared_ptr<CommandOptions>;

ExitCode Print(const v1::Adapter& adapter, const std::string& says,
               const GlobalOptions& global) {
  if (global.json) {
    PrintJson(AdapterJson(adapter));
  } else {
    std::printf("%s %s\n", adapter.name().c_str(), says.c_str());
  }
  return kExitOk;
}

ExitCode Load(const CommandOptions& options, const GlobalOptions& global) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::LoadAdapterRequest request;
  options.Fill(request.mutable_adapter());
  request.set_level(options.host ? v1::ADAPTER_LEVEL_HOST
                                 : v1::ADAPTER_LEVEL_DEVICE);
  v1::LoadAdapterResponse response;
  const grpc::Status status =
      options.Connect(global)->LoadAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, options.target);
  return Print(response.adapter(),
               absl::StrCat("is ", options.host ? "in the host's memory"
                                                : "on the device"),
               global);
}

ExitCode Unload(const CommandOptions& options, const GlobalOptions& global) {
  grpc::ClientContext context;
  v1::UnloadAdapterRequest request;
  options.Fill(request.mutable_adapter());
  v1::UnloadAdapterResponse response;
  const grpc::Status status =
      options.Connect(global)->UnloadAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, options.target);
  return Print(
      response.adapter(),
      absl::StrCat("freed ", FormatBytes(response.freed_device_bytes()),
                   " on the device, ", FormatBytes(response.freed_host_bytes()),
                   " in the host's memory"),
      global);
}

ExitCode Pin(bool pinned, const CommandOptions& options,
             const GlobalOptions& global) {
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::PinAdapterRequest request;
  options.Fill(request.mutable_adapter());
  request.set_pinned(pinned);
  v1::PinAdapterResponse response;
  const grpc::Status status =
      options.Connect(global)->PinAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, options.target);
  return Print(response.adapter(),
               pinned ? "is pinned to the device" : "is not pinned", global);
}

// Prints what is damaged, then the sums. Damage is an exit code.
ExitCode Verify(const CommandOptions& options, const GlobalOptions& global) {
  grpc::ClientContext context;
  const auto stub = options.Connect(global);
  const auto reader = stub->VerifyStore(&context, {});
  v1::VerifyStoreResponse response;
  v1::VerifySummary summary;
  Json damaged = Json::array();
  while (reader->Read(&response)) {
    if (response.has_summary()) summary = response.summary();
    const v1::VerifiedAdapter& adapter = response.adapter();
    if (!response.has_adapter() || adapter.problem().empty()) continue;
    damaged.push_back({{"tenant", adapter.tenant()},
                       {"name", adapter.name()},
                       {"version", adapter.version()},
                       {"digest", adapter.digest()},
                       {"problem", adapter.problem()}});
    if (!global.json) {
      std::printf("%s%s%s@%s: %s\n", adapter.tenant().c_str(),
                  adapter.tenant().empty() ? "" : "/", adapter.name().c_str(),
                  adapter.digest().c_str(), adapter.problem().c_str());
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return ReportError(status, options.target);
  if (global.json) {
    PrintJson({{"verified", summary.verified()},
               {"bytes", summary.bytes()},
               {"damaged", damaged}});
  } else {
    std::printf("%lu versions, %s, %lu damaged\n",
                static_cast<unsigned long>(summary.verified()),
                FormatBytes(summary.bytes()).c_str(),
                static_cast<unsigned long>(summary.damaged()));
  }
  return damaged.empty() ? kExitOk : kExitInvalid;
}

using Run = ExitCode (*)(const CommandOptions&, const GlobalOptions&);

CLI::App* Add(CLI::App* admin, const char* name, const char* description,
              const Options& options, Run run, Command* chosen) {
  CLI::App* command = admin->add_subcommand(name, description);
  command->callback([options, run, chosen] {
    *chosen = [options, run](const GlobalOptions& global) {
      return run(*options, global);
    };
  });
  return command;
}

}  // namespace

void AddAdminCommand(CLI::App* app, Command* chosen) {
  CLI::App* admin = app->add_subcommand(
      "admin", "Operators: load, unload, pin and verify adapters");
  admin->require_subcommand(1);
  const auto options = std::make_shared<CommandOptions>();
  AddAdminTarget(admin, options.get());
  CLI::App* load = Add(admin, "load", "Load an adapter onto the device",
                       options, Load, chosen);
  AddAdapterReference(load, options.get());
  load->add_flag("--host", options->host, "Into the host's memory only");
  AddAdapterReference(
      Add(admin, "unload", "Free what an adapter takes, and its pin", options,
          Unload, chosen),
      options.get());
  AddAdapterReference(
      Add(
          admin, "pin", "Keep an adapter on the device", options,
          [](const CommandOptions& o, const GlobalOptions& g) {
            return Pin(true, o, g);
          },
          chosen),
      options.get());
  AddAdapterReference(Add(
                          admin, "unpin", "End a pin", options,
                          [](const CommandOptions& o, const GlobalOptions& g) {
                            return Pin(false, o, g);
                          },
                          chosen),
                      options.get());
  Add(admin, "verify", "Read all stored adapters, and name the damaged ones",
      options, Verify, chosen);
}

}  // namespace descant::cli
