// `descant adapters upload`.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/formats/mapped_file.h"
#include "runtime/base/status_macros.h"
#include "server/cli/adapter_commands.h"
#include "server/cli/adapter_folder.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/progress_bar.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

struct UploadOptions {
  std::string name;
  std::string path;
  bool replace = false;
  bool validate_only = false;
  std::optional<uint64_t> expected_version;
  std::optional<std::string> base_fingerprint;
  std::vector<std::string> labels;  // KEY=VALUE
};

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("can't read ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

v1::UploadAdapterHeader MakeHeader(const UploadOptions& options) {
  v1::UploadAdapterHeader header;
  header.set_name(ToValidUtf8(options.name));
  header.set_replace(options.replace);
  header.set_validate_only(options.validate_only);
  if (options.expected_version) {
    header.set_expected_version(*options.expected_version);
  }
  if (options.base_fingerprint) {
    header.set_base_fingerprint(ToValidUtf8(*options.base_fingerprint));
  }
  for (const std::string& label : options.labels) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(label, absl::MaxSplits('=', 1));
    (*header.mutable_labels())[ToValidUtf8(parts.first)] =
        ToValidUtf8(parts.second);
  }
  return header;
}

// The file to send; what `header` says of it.
absl::StatusOr<MappedFile> OpenFile(const std::string& path,
                                    v1::UploadAdapterHeader* header) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) {
    header->set_format(v1::ADAPTER_FORMAT_GGUF);
    return MappedFile::Open(path);
  }
  header->set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
  DESCANT_ASSIGN_OR_RETURN(*header->mutable_config_json(),
                           ReadText(path + "/" + kAdapterConfigFile));
  return MappedFile::Open(path + "/" + kAdapterTensorsFile);
}

void Print(const v1::UploadAdapterResponse& response, bool validate_only,
           bool as_json) {
  const v1::Adapter& adapter = response.adapter();
  if (as_json) {
    Json json = AdapterJson(adapter);
    json["created"] = response.created();
    PrintJson(json);
    return;
  }
  const char* note = validate_only         ? " (checked, not stored)"
                     : !response.created() ? " (was there already)"
                                           : "";
  std::printf("%s@%s%s\n", adapter.name().c_str(), adapter.digest().c_str(),
              note);
}

ExitCode Upload(const UploadOptions& options, const GlobalOptions& global) {
  v1::UploadAdapterHeader header = MakeHeader(options);
  const absl::StatusOr<MappedFile> file = OpenFile(options.path, &header);
  if (!file.ok()) return ReportError(file.status());
  const Connection connection = Connect(global.target, global.credentials);
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
  Print(response, options.validate_only, global.json);
  return kExitOk;
}

std::string CheckLabel(const std::string& label) {
  return label.find('=') == std::string::npos ? "must be KEY=VALUE" : "";
}

}  // namespace

void AddUploadCommand(CLI::App* adapters, Command* chosen) {
  auto options = std::make_shared<UploadOptions>();
  CLI::App* command = adapters->add_subcommand(
      "upload",
      "Store the adapter that PEFT saved in a folder, or a GGUF LoRA file");
  command->add_option("name", options->name, "Its name")->required();
  command
      ->add_option("path", options->path,
                   "Folder with adapter_config.json and "
                   "adapter_model.safetensors, or one GGUF file")
      ->required();
  command->add_flag("--replace", options->replace,
                    "The name may already stand for another version");
  command->add_option("--expected-version", options->expected_version,
                      "Replace only this version; 0: there must be none");
  command->add_flag("--validate-only", options->validate_only,
                    "Check everything, store nothing");
  command
      ->add_option("--label", options->labels,
                   "KEY=VALUE to keep with the version; may be repeated")
      ->allow_extra_args(false)  // what follows may be the name
      ->check(CheckLabel);
  command->add_option("--base-fingerprint", options->base_fingerprint,
                      "Refuse unless the server's base model has this one");
  command->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return Upload(*options, global);
    };
  });
}

}  // namespace descant::cli
