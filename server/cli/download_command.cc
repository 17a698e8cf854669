// `descant adapters download`.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/cli/adapter_commands.h"
#include "server/cli/adapter_folder.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/progress_bar.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

struct DownloadOptions {
  std::string id;
  std::string folder;
  bool force = false;
};

// Writes what comes into `folder`. `header` is what it began with. An error of
// this side, after which the stream is worthless, or OK: `*status` tells.
absl::Status Receive(grpc::ClientReader<v1::DownloadAdapterResponse>* reader,
                     const std::string& label, AdapterFolder* folder,
                     v1::DownloadAdapterHeader* header, grpc::Status* status) {
  v1::DownloadAdapterResponse message;
  std::unique_ptr<ProgressBar> bar;
  uint64_t received = 0;
  while (reader->Read(&message)) {
    absl::Status written;
    if (message.has_header()) {
      *header = message.header();
      bar = std::make_unique<ProgressBar>(label, header->size_bytes());
      written = folder->WriteConfig(header->config_json());
    } else {
      written = folder->AppendTensors(message.chunk());
      received += message.chunk().size();
      if (bar != nullptr) bar->Update(received);
    }
    if (!written.ok()) return written;
  }
  *status = reader->Finish();
  if (status->ok() && (bar == nullptr || received != header->size_bytes())) {
    return absl::InternalError(absl::StrCat(
        "the server sent ", received, " of ", header->size_bytes(), " bytes"));
  }
  return absl::OkStatus();
}

ExitCode Download(const DownloadOptions& options, const GlobalOptions& global) {
  auto folder = AdapterFolder::Open(options.folder, options.force);
  if (!folder.ok()) return ReportError(folder.status());
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  v1::DownloadAdapterRequest request;
  request.set_adapter_id(ToValidUtf8(options.id));
  const auto reader = connection.adapters->DownloadAdapter(&context, request);
  v1::DownloadAdapterHeader header;
  grpc::Status status;
  const absl::Status local =
      Receive(reader.get(), options.id, folder->get(), &header, &status);
  if (!local.ok()) {
    context.TryCancel();
    reader->Finish();
    return ReportError(local);
  }
  if (!status.ok()) return ReportError(status, global.target);
  if (auto kept = (*folder)->Commit(); !kept.ok()) return ReportError(kept);
  const v1::Adapter& adapter = header.adapter();
  if (global.json) {
    PrintJson(AdapterJson(adapter));
  } else {
    std::printf("%s@%s, %s\n", adapter.name().c_str(), adapter.digest().c_str(),
                FormatBytes(header.size_bytes()).c_str());
  }
  return kExitOk;
}

}  // namespace

void AddDownloadCommand(CLI::App* adapters, Command* chosen) {
  auto options = std::make_shared<DownloadOptions>();
  CLI::App* command = adapters->add_subcommand(
      "download", "Save an adapter into a folder, as PEFT would");
  command->add_option("id", options->id, "NAME or NAME@sha256:HEX")->required();
  command->add_option("folder", options->folder, "Made where there is none")
      ->required();
  command->add_flag("--force", options->force,
                    "Replace the adapter that is in the folder");
  command->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return Download(*options, global);
    };
  });
}

}  // namespace descant::cli
