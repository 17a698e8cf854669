// `descant run`: answers a file of prompts.
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/generation_options.h"
#include "server/cli/json_output.h"
#include "server/cli/run/batch_run.h"

namespace descant::cli {
namespace {

constexpr char kFooter[] =
    "A line of the input is a JSON object with the fields of a generation:\n"
    "  {\"id\": \"q1\", \"adapter_id\": \"pirate\", \"text\": \"Hello\", "
    "\"max_tokens\": 8}\n"
    "  {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
    "\"temperature\": 0}\n"
    "The prompt is one of text, token_ids and messages; options on the "
    "command\n"
    "line are defaults for what a line leaves out. A record of the output is\n"
    "{\"line\": N, \"id\", ...} and then what `generate --json` prints, or\n"
    "\"error\": {\"code\", \"reason\", \"message\"}; records come as answers "
    "do.\n"
    "The same command again goes on where the last one stopped. Ctrl-C ends\n"
    "what is in flight; a second one ends at once.\n"
    "Exit code 65: some lines failed, see --retry-failed; 75: not complete.";

std::atomic<int> stop_signals{0};

void CountSignal(int) { ++stop_signals; }

struct RunOptions {
  BatchOptions batch;
  GenerationOptions generation;
  bool logprobs = false;
  std::optional<int32_t> top_logprobs;
};

Json SummaryJson(const BatchResult& result) {
  const RunCounts& counts = result.counts;
  return {{"complete", result.complete},
          {"answered", counts.answered},
          {"failed", counts.failed},
          {"skipped", counts.skipped},
          {"failed_before", result.failed_before},
          {"output_tokens", counts.output_tokens},
          {"seconds", counts.seconds}};
}

void PrintSummary(const BatchResult& result) {
  const RunCounts& counts = result.counts;
  std::string line = absl::StrCat("run: ", counts.answered, " answered, ",
                                  counts.failed, " failed");
  if (counts.skipped > 0) {
    absl::StrAppend(&line, ", ", counts.skipped, " were there");
  }
  if (counts.seconds > 0) {
    absl::StrAppend(
        &line, absl::StrFormat(
                   "; %d tokens in %.1f s, %.0f tokens/s", counts.output_tokens,
                   counts.seconds,
                   static_cast<double>(counts.output_tokens) / counts.seconds));
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

ExitCode Run(const RunOptions& options, const GlobalOptions& global) {
  BatchOptions batch = options.batch;
  batch.defaults = MakeRequest(options.generation);
  batch.timeout_seconds = options.generation.timeout_seconds;
  v1::OutputOptions* output = batch.defaults.mutable_output();
  output->set_token_ids(true);
  if (options.logprobs) output->set_logprobs(true);
  if (options.top_logprobs) output->set_top_logprobs(*options.top_logprobs);
  batch.stops = [] { return stop_signals.load(); };
  struct sigaction action = {};
  action.sa_handler = CountSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  const BatchResult result =
      RunBatch(Connect(global.target, global.credentials), batch);
  const bool any_failed = result.counts.failed + result.failed_before > 0;
  ExitCode code = kExitOk;
  if (!result.status.ok()) {
    code = ReportError(result.status);
  } else if (!result.call.ok()) {
    code = ReportError(result.call, global.target);
  } else if (!result.complete) {
    code = kExitRetry;
  } else if (any_failed) {
    code = kExitRefused;
  }
  PrintSummary(result);
  if (!result.complete && batch.output != "-" && result.status.ok()) {
    std::fprintf(stderr, "run: the same command goes on from here\n");
  } else if (result.complete && any_failed && batch.output != "-") {
    std::fprintf(stderr, "run: --retry-failed asks again for what failed\n");
  }
  if (global.json && batch.output != "-") PrintJson(SummaryJson(result));
  return code;
}

}  // namespace

void AddRunCommand(CLI::App* app, Command* chosen) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app->add_subcommand(
      "run", "Answer a file of prompts, many at a time, each with its adapter");
  command->footer(kFooter);
  command
      ->add_option("input", options->batch.input,
                   "File of JSON lines, - for standard input")
      ->required();
  command
      ->add_option("--out", options->batch.output,
                   "File of answers, appended to; - for standard output")
      ->required();
  AddGenerationOptions(command, &options->generation);
  command->add_flag("--logprobs", options->logprobs,
                    "Log-probabilities of the chosen tokens");
  command->add_option("--top-logprobs", options->top_logprobs,
                      "And of the N likeliest at each position");
  command
      ->add_option("--concurrency", options->batch.concurrency,
                   "Most lines in flight (default: what fills the server's "
                   "batch); fewer while the server is full")
      ->check(CLI::Range(1, 1000));
  command->add_flag("--strict", options->batch.strict,
                    "A line that is no request stops all before the first");
  command->add_flag("--retry-failed", options->batch.retry_failed,
                    "Ask again for the lines that failed");
  command->add_flag("--in-order", options->batch.in_order,
                    "Sort the answers by line once all are there");
  command
      ->add_option("--patience", options->batch.patience_seconds,
                   "Seconds the server may be away before the run gives up")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([options, chosen] {
    if (options->batch.output == "-" &&
        (options->batch.in_order || options->batch.retry_failed)) {
      throw CLI::ValidationError("--out",
                                 "--in-order and --retry-failed need a file");
    }
    *chosen = [options](const GlobalOptions& global) {
      return Run(*options, global);
    };
  });
}

}  // namespace descant::cli
