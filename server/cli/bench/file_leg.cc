#include "server/cli/bench/file_leg.h"

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/run/batch_run.h"

namespace descant::cli {
namespace {

void WriteRequests(const std::vector<v1::GenerateRequest>& requests,
                   const std::string& path) {
  std::ofstream file(path);
  for (const v1::GenerateRequest& request : requests) {
    Json line = Json::object();
    if (request.has_adapter_id()) line["adapter_id"] = request.adapter_id();
    line["token_ids"] = std::vector<int64_t>(request.token_ids().ids().begin(),
                                             request.token_ids().ids().end());
    line["temperature"] = request.sampling().temperature();
    line["max_tokens"] = request.stopping().max_tokens();
    line["ignore_eos"] = request.stopping().ignore_eos();
    if (request.has_max_draft_tokens()) {
      line["max_draft_tokens"] = request.max_draft_tokens();
    }
    file << line.dump() << "\n";
  }
}

absl::Status ReadAnswers(const std::string& path, LoadResult* result) {
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    const Json record = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (record.is_discarded() || record.contains("error")) {
      return absl::InternalError(absl::StrCat("descant run: ", text));
    }
    StreamedAnswer& answer =
        result->answers.at(record.at("line").get<size_t>() - 1);
    answer.tokens = record.at("token_ids").get<std::vector<int32_t>>();
    answer.adapter_digest = record.at("adapter_digest").get<std::string>();
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunFromFile(const Connection& connection,
                         const std::vector<v1::GenerateRequest>& requests,
                         LoadResult* result) {
  *result = {};
  result->answers.resize(requests.size());
  std::string folder =
      (std::filesystem::temp_directory_path() / "descant-bench-XXXXXX")
          .string();
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("can't make ", folder));
  }
  BatchOptions options;
  options.input = folder + "/prompts.jsonl";
  options.output = folder + "/answers.jsonl";
  options.show_progress = false;
  options.defaults.mutable_output()->set_token_ids(true);
  WriteRequests(requests, options.input);
  const MonotonicTime start = std::chrono::steady_clock::now();
  const BatchResult run = RunBatch(connection, options);
  result->seconds = ToSeconds(std::chrono::steady_clock::now() - start);
  absl::Status status = run.status;
  if (status.ok() && !run.call.ok()) {
    status = absl::InternalError(DescribeError(run.call));
  }
  if (status.ok()) status = ReadAnswers(options.output, result);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return status;
}

}  // namespace descant::cli
