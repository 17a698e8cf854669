// `descant models`: what the server serves, and within which limits.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/progress_bar.h"
#include "server/cli/table.h"

namespace descant::cli {
namespace {

std::string Render(const v1::GetModelResponse& model) {
  const v1::AdapterLimits& limits = model.adapter_limits();
  Table table({{"model"}, {model.name()}});
  table.AddRow({"architecture", model.architecture()});
  table.AddRow({"fingerprint", model.base_fingerprint()});
  table.AddRow({"vocabulary", absl::StrCat(model.vocab_size())});
  table.AddRow(
      {"context",
       absl::StrCat(model.generation_limits().max_model_len(), " tokens")});
  table.AddRow({"chat", model.chat_template_supported() ? "yes" : "no"});
  table.AddRow(
      {"adapters", absl::StrCat("up to ", limits.max_adapters(), ", rank ",
                                limits.max_rank(), ", ",
                                FormatBytes(limits.max_size_bytes()))});
  table.AddRow({"modules", absl::StrJoin(model.target_modules(), " ")});
  table.AddRow({"PEFT features", absl::StrJoin(model.peft_features(), " ")});
  table.AddRow({"device", model.device()});
  table.AddRow({"server", model.server_version()});
  return table.Render();
}

ExitCode Models(const GlobalOptions& global) {
  const Connection connection = Connect(global.target, global.credentials);
  grpc::ClientContext context;
  SetShortDeadline(&context);
  v1::GetModelResponse model;
  const grpc::Status status =
      connection.generation->GetModel(&context, {}, &model);
  if (!status.ok()) return ReportError(status, global.target);
  if (global.json) {
    PrintJson(ModelJson(model));
  } else {
    std::fputs(Render(model).c_str(), stdout);
  }
  return kExitOk;
}

}  // namespace

void AddModelsCommand(CLI::App* app, Command* chosen) {
  CLI::App* command = app->add_subcommand(
      "models", "Show the base model, its limits and the server");
  command->callback([chosen] { *chosen = Models; });
}

}  // namespace descant::cli
