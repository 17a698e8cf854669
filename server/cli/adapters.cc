// `descant adapters`: list, get, versions, rollback, delete. What moves an
// adapter's bytes, share and watch are in files of their own.
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/cli/adapter_commands.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/progress_bar.h"
#include "server/cli/table.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

// Digits of a digest that a table shows.
constexpr size_t kShortDigest = 19;
constexpr int kPageSize = 1000;

std::string Render(const v1::Adapter& adapter) {
  Table table({{"adapter"}, {adapter.name()}});
  table.AddRow({"digest", adapter.digest()});
  table.AddRow({"version", absl::StrCat(adapter.version())});
  table.AddRow({"state", AdapterStateName(adapter.state())});
  if (!adapter.state_reason().empty()) {
    table.AddRow({"reason", adapter.state_reason()});
  }
  table.AddRow({"held in", AdapterLevelName(adapter.level()) +
                               (adapter.pinned() ? ", pinned" : "")});
  table.AddRow({"rank", absl::StrCat(adapter.max_rank())});
  table.AddRow(
      {"modules", absl::StrCat(adapter.module_count(), ": ",
                               absl::StrJoin(adapter.target_modules(), " "))});
  table.AddRow({"parameters", absl::StrCat(adapter.parameter_count())});
  table.AddRow({"size", FormatBytes(adapter.size_bytes())});
  table.AddRow({"trained on", adapter.base_model_name_or_path()});
  table.AddRow({"created", FormatTime(adapter.create_time())});
  if (adapter.has_sharing()) {
    table.AddRow({"shared with", SharingText(adapter.sharing())});
  }
  // Sorted: a map of Protobuf has no order.
  const std::map<std::string, std::string> labels(adapter.labels().begin(),
                                                  adapter.labels().end());
  for (const auto& [key, value] : labels) {
    table.AddRow({"label " + key, value});
  }
  return table.Render();
}

template <typename Adapters>
std::string RenderAll(const Adapters& adapters) {
  Table table({{"name"},
               {"version", Align::kRight},
               {"rank", Align::kRight},
               {"modules"},
               {"size", Align::kRight},
               {"state"},
               {"digest"},
               {"created"}});
  for (const v1::Adapter& adapter : adapters) {
    table.AddRow({adapter.name(), absl::StrCat(adapter.version()),
                  absl::StrCat(adapter.max_rank()),
                  absl::StrJoin(adapter.target_modules(), " "),
                  FormatBytes(adapter.size_bytes()),
                  AdapterStateName(adapter.state()),
                  adapter.digest().substr(0, kShortDigest),
                  FormatTime(adapter.create_time())});
  }
  return table.Render();
}

template <typename Adapters>
void PrintAll(const Adapters& adapters, const GlobalOptions& global) {
  if (global.json) {
    Json list = Json::array();
    for (const v1::Adapter& adapter : adapters) {
      list.push_back(AdapterJson(adapter));
    }
    PrintJson(list);
  } else {
    std::fputs(RenderAll(adapters).c_str(), stdout);
  }
}

ExitCode List(bool shared_with_me, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  std::vector<v1::Adapter> adapters;
  v1::ListAdaptersRequest request;
  request.set_page_size(kPageSize);
  request.set_shared_with_me(shared_with_me);
  do {
    grpc::ClientContext context;
    SetShortDeadline(&context);
    v1::ListAdaptersResponse page;
    const grpc::Status status =
        connection.adapters->ListAdapters(&context, request, &page);
    if (!status.ok()) return ReportError(status, global.target);
    adapters.insert(adapters.end(), page.adapters().begin(),
                    page.adapters().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  PrintAll(adapters, global);
  return kExitOk;
}

grpc::Status Find(const std::string& id, const GlobalOptions& global,
                  v1::GetAdapterResponse* response) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::GetAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(id));
  return connection.adapters->GetAdapter(&context, request, response);
}

ExitCode Get(const std::string& id, const GlobalOptions& global) {
  v1::GetAdapterResponse response;
  const grpc::Status status = Find(id, global, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson(AdapterJson(response.adapter()));
  } else {
    std::fputs(Render(response.adapter()).c_str(), stdout);
  }
  return kExitOk;
}

ExitCode Versions(const std::string& name, const GlobalOptions& global) {
  v1::GetAdapterResponse response;
  const grpc::Status status = Find(name, global, &response);
  if (!status.ok()) return ReportError(status, global.target);
  PrintAll(response.versions(), global);
  return kExitOk;
}

ExitCode Rollback(const std::string& id,
                  const std::optional<uint64_t>& expected_version,
                  const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::RollbackAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(id));
  if (expected_version) request.set_expected_version(*expected_version);
  v1::RollbackAdapterResponse response;
  const grpc::Status status =
      connection.adapters->RollbackAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  const v1::Adapter& adapter = response.adapter();
  if (global.json) {
    PrintJson(AdapterJson(adapter));
  } else {
    std::printf("%s@%s is current, version %s\n", adapter.name().c_str(),
                adapter.digest().c_str(),
                absl::StrCat(adapter.version()).c_str());
  }
  return kExitOk;
}

ExitCode Delete(const std::string& id, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(id));
  v1::DeleteAdapterResponse response;
  const grpc::Status status =
      connection.adapters->DeleteAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson({{"digest", response.digest()}});
  } else {
    std::printf("deleted %s (%s)\n", id.c_str(), response.digest().c_str());
  }
  return kExitOk;
}

void AddList(CLI::App* adapters, Command* chosen) {
  auto shared = std::make_shared<bool>(false);
  CLI::App* command = adapters->add_subcommand("list", "List your adapters");
  command->add_flag("--shared", *shared,
                    "Instead, those of others that you may use");
  command->callback([shared, chosen] {
    *chosen = [shared](const GlobalOptions& global) {
      return List(*shared, global);
    };
  });
}

void AddRollback(CLI::App* adapters, Command* chosen) {
  struct Options {
    std::string id;
    std::optional<uint64_t> expected_version;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = adapters->add_subcommand(
      "rollback", "Make an earlier version current again");
  command
      ->add_option("id", options->id,
                   "NAME@sha256:HEX, or NAME for the version before")
      ->required();
  command->add_option("--expected-version", options->expected_version,
                      "Only while this version is current");
  command->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return Rollback(options->id, options->expected_version, global);
    };
  });
}

constexpr char kOwnId[] = "NAME or NAME@sha256:HEX";
constexpr char kUsableId[] =
    "[OWNER/]NAME or [OWNER/]NAME@sha256:HEX; another OWNER shares it with you";

// A command with an adapter's id as its one argument.
void AddById(CLI::App* adapters, const char* name, const char* description,
             const char* id_description,
             ExitCode (*run)(const std::string&, const GlobalOptions&),
             Command* chosen) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = adapters->add_subcommand(name, description);
  command->add_option("id", *id, id_description)->required();
  command->callback([id, run, chosen] {
    *chosen = [id, run](const GlobalOptions& global) {
      return run(*id, global);
    };
  });
}

}  // namespace

void AddAdaptersCommand(CLI::App* app, Command* chosen) {
  CLI::App* adapters =
      app->add_subcommand("adapters", "Move, list, show and delete adapters");
  adapters->require_subcommand(1);
  AddUploadCommand(adapters, chosen);
  AddDownloadCommand(adapters, chosen);
  AddList(adapters, chosen);
  AddById(adapters, "get", "Show one adapter", kUsableId, Get, chosen);
  AddById(adapters, "versions", "List the versions of a name that are kept",
          kUsableId, Versions, chosen);
  AddRollback(adapters, chosen);
  AddShareCommand(adapters, chosen);
  AddWatchCommand(adapters, chosen);
  AddById(adapters, "delete", "Remove an adapter", kOwnId, Delete, chosen);
}

}  // namespace descant::cli
