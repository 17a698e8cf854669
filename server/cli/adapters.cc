// `descant adapters`: upload, list, get, delete.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/mapped_file.h"
#include "server/cli/adapter_upload.h"
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

struct UploadOptions {
  std::string name;
  std::string folder;
  bool replace = false;
  std::optional<std::string> base_fingerprint;
};

std::string Render(const v1::Adapter& adapter) {
  Table table({{"adapter"}, {adapter.name()}});
  table.AddRow({"digest", adapter.digest()});
  table.AddRow({"state", AdapterStateName(adapter.state())});
  if (!adapter.state_reason().empty()) {
    table.AddRow({"reason", adapter.state_reason()});
  }
  table.AddRow({"rank", absl::StrCat(adapter.max_rank())});
  table.AddRow(
      {"modules", absl::StrCat(adapter.module_count(), ": ",
                               absl::StrJoin(adapter.target_modules(), " "))});
  table.AddRow({"parameters", absl::StrCat(adapter.parameter_count())});
  table.AddRow({"size", FormatBytes(adapter.size_bytes())});
  table.AddRow({"trained on", adapter.base_model_name_or_path()});
  table.AddRow({"created", FormatTime(adapter.create_time())});
  return table.Render();
}

std::string Render(const std::vector<v1::Adapter>& adapters) {
  Table table({{"name"},
               {"rank", Align::kRight},
               {"modules"},
               {"size", Align::kRight},
               {"state"},
               {"digest"},
               {"created"}});
  for (const v1::Adapter& adapter : adapters) {
    table.AddRow({adapter.name(), absl::StrCat(adapter.max_rank()),
                  absl::StrJoin(adapter.target_modules(), " "),
                  FormatBytes(adapter.size_bytes()),
                  AdapterStateName(adapter.state()),
                  adapter.digest().substr(0, kShortDigest),
                  FormatTime(adapter.create_time())});
  }
  return table.Render();
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("can't read ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

ExitCode Upload(const UploadOptions& options, const GlobalOptions& global) {
  const absl::StatusOr<std::string> config =
      ReadText(options.folder + "/adapter_config.json");
  if (!config.ok()) return ReportError(config.status());
  const absl::StatusOr<MappedFile> file =
      MappedFile::Open(options.folder + "/adapter_model.safetensors");
  if (!file.ok()) return ReportError(file.status());
  v1::UploadAdapterHeader header;
  header.set_name(ToValidUtf8(options.name));
  header.set_config_json(*config);
  header.set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
  header.set_replace(options.replace);
  if (options.base_fingerprint) {
    header.set_base_fingerprint(*options.base_fingerprint);
  }
  const Connection connection = Connect(global.target, global.api_key);
  v1::UploadAdapterResponse response;
  grpc::Status status;
  {
    const absl::Span<const char> bytes = file->bytes();
    ProgressBar bar(options.name, bytes.size());
    status = UploadAdapter(
        connection.adapters.get(), std::move(header),
        absl::string_view(bytes.data(), bytes.size()),
        [&bar](uint64_t sent) { bar.Update(sent); }, &response);
  }
  if (!status.ok()) return ReportError(status, global.target);
  const v1::Adapter& adapter = response.adapter();
  if (global.json) {
    Json json = AdapterJson(adapter);
    json["created"] = response.created();
    PrintJson(json);
  } else {
    std::printf("%s@%s%s\n", adapter.name().c_str(), adapter.digest().c_str(),
                response.created() ? "" : " (was there already)");
  }
  return kExitOk;
}

ExitCode List(const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.api_key);
  std::vector<v1::Adapter> adapters;
  v1::ListAdaptersRequest request;
  request.set_page_size(kPageSize);
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
  if (global.json) {
    Json list = Json::array();
    for (const v1::Adapter& adapter : adapters) {
      list.push_back(AdapterJson(adapter));
    }
    PrintJson(list);
  } else {
    std::fputs(Render(adapters).c_str(), stdout);
  }
  return kExitOk;
}

ExitCode Get(const std::string& id, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.api_key);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::GetAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(id));
  v1::GetAdapterResponse response;
  const grpc::Status status =
      connection.adapters->GetAdapter(&context, request, &response);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson(AdapterJson(response.adapter()));
  } else {
    std::fputs(Render(response.adapter()).c_str(), stdout);
  }
  return kExitOk;
}

ExitCode Delete(const std::string& id, const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.api_key);
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

void AddUpload(CLI::App* adapters, Command* chosen) {
  auto options = std::make_shared<UploadOptions>();
  CLI::App* command = adapters->add_subcommand(
      "upload", "Store the adapter that PEFT saved in a folder");
  command->add_option("name", options->name, "Its name")->required();
  command
      ->add_option("folder", options->folder,
                   "Folder with adapter_config.json and "
                   "adapter_model.safetensors")
      ->required();
  command->add_flag("--replace", options->replace,
                    "The name may already stand for another version");
  command->add_option("--base-fingerprint", options->base_fingerprint,
                      "Refuse unless the server's base model has this one");
  command->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return Upload(*options, global);
    };
  });
}

// A command with an adapter's id as its one argument.
void AddById(CLI::App* adapters, const char* name, const char* description,
             ExitCode (*run)(const std::string&, const GlobalOptions&),
             Command* chosen) {
  auto id = std::make_shared<std::string>();
  CLI::App* command = adapters->add_subcommand(name, description);
  command->add_option("id", *id, "NAME or NAME@sha256:HEX")->required();
  command->callback([id, run, chosen] {
    *chosen = [id, run](const GlobalOptions& global) {
      return run(*id, global);
    };
  });
}

}  // namespace

void AddAdaptersCommand(CLI::App* app, Command* chosen) {
  CLI::App* adapters =
      app->add_subcommand("adapters", "Upload, list, show and delete adapters");
  adapters->require_subcommand(1);
  AddUpload(adapters, chosen);
  adapters->add_subcommand("list", "List your adapters")->callback([chosen] {
    *chosen = List;
  });
  AddById(adapters, "get", "Show one adapter", Get, chosen);
  AddById(adapters, "delete", "Remove an adapter", Delete, chosen);
}

}  // namespace descant::cli
