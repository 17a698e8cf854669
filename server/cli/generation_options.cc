#include "server/cli/generation_options.h"

#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/cli/text.h"

namespace descant::cli {
namespace {

// "ID:BIAS"; what is wrong with the numbers themselves is the server's to say.
bool ParseBias(absl::string_view text, v1::LogitBias* entry) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  int64_t token = 0;
  float bias = 0;
  if (!absl::SimpleAtoi(parts.first, &token) ||
      !absl::SimpleAtof(parts.second, &bias)) {
    return false;
  }
  entry->set_token_id(token);
  entry->set_bias(bias);
  return true;
}

std::string IsBias(const std::string& text) {
  v1::LogitBias unused;
  return ParseBias(text, &unused) ? "" : "must be ID:BIAS, as in 42:-100";
}

}  // namespace

void AddGenerationOptions(CLI::App* command, GenerationOptions* options) {
  command->add_option("--adapter", options->adapter,
                      "Adapter, NAME or NAME@sha256:HEX (default: none, the "
                      "base model)");
  command->add_option("--max-tokens", options->max_tokens,
                      "Most tokens to generate");
  command->add_option("--temperature", options->temperature,
                      "0 is greedy (server's default: 1)");
  command->add_option("--top-k", options->top_k,
                      "Likeliest tokens to choose from");
  command->add_option("--top-p", options->top_p,
                      "Probability the tokens to choose from reach together");
  command->add_option("--min-p", options->min_p,
                      "Least probability, as a share of the likeliest's");
  command->add_option("--typical-p", options->typical_p,
                      "Probability that the least surprising tokens to choose "
                      "from reach together");
  command->add_option("--repetition-penalty", options->repetition_penalty,
                      "Above 1: tokens of prompt and answer repeat less");
  command->add_option("--presence-penalty", options->presence_penalty,
                      "Off the logit of tokens the answer has, -2 to 2");
  command->add_option("--frequency-penalty", options->frequency_penalty,
                      "The same, for each time it has them, -2 to 2");
  command
      ->add_option("--logit-bias", options->logit_bias,
                   "Added to logits, ID:BIAS,ID:BIAS; -100 bans the token")
      ->delimiter(',')
      ->check(IsBias);
  command->add_option("--seed", options->seed, "Same seed, same answer");
  command
      ->add_option("--stop", options->stop_strings,
                   "End the answer before this text (may be repeated)")
      ->allow_extra_args(false);
  command->add_flag("--include-stop", options->include_stop_string,
                    "End the answer with the --stop that ended it");
  command->add_option("--min-tokens", options->min_tokens,
                      "Nothing ends the answer before it has this many");
  command
      ->add_option("--stop-token-ids", options->stop_token_ids,
                   "End the answer with one of these: 1,2,3")
      ->delimiter(',');
  command->add_option("--priority", options->priority,
                      "Among your own requests, -100 to 100");
  command->add_flag("--bypass-prefix-cache", options->bypass_prefix_cache,
                    "Compute the prompt whole, and keep nothing of it");
  command->add_option("--max-draft-tokens", options->max_draft_tokens,
                      "Most tokens guessed ahead in a step; 0: none");
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Do not end where the model would");
  command
      ->add_option("--timeout", options->timeout_seconds,
                   "Give up after this many seconds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

v1::GenerateRequest MakeRequest(const GenerationOptions& options) {
  v1::GenerateRequest request;
  if (options.adapter) request.set_adapter_id(ToValidUtf8(*options.adapter));
  v1::SamplingOptions* sampling = request.mutable_sampling();
  if (options.temperature) sampling->set_temperature(*options.temperature);
  if (options.top_k) sampling->set_top_k(*options.top_k);
  if (options.top_p) sampling->set_top_p(*options.top_p);
  if (options.min_p) sampling->set_min_p(*options.min_p);
  if (options.typical_p) sampling->set_typical_p(*options.typical_p);
  if (options.repetition_penalty) {
    sampling->set_repetition_penalty(*options.repetition_penalty);
  }
  if (options.presence_penalty) {
    sampling->set_presence_penalty(*options.presence_penalty);
  }
  if (options.frequency_penalty) {
    sampling->set_frequency_penalty(*options.frequency_penalty);
  }
  for (const std::string& text : options.logit_bias) {
    ParseBias(text, sampling->add_logit_bias());
  }
  if (options.seed) sampling->set_seed(*options.seed);
  v1::StoppingOptions* stopping = request.mutable_stopping();
  if (options.max_tokens) stopping->set_max_tokens(*options.max_tokens);
  for (const std::string& stop : options.stop_strings) {
    stopping->add_stop_strings(ToValidUtf8(stop));
  }
  for (const int64_t id : options.stop_token_ids) {
    stopping->add_stop_token_ids(id);
  }
  if (options.ignore_eos) stopping->set_ignore_eos(true);
  if (options.min_tokens) stopping->set_min_tokens(*options.min_tokens);
  if (options.include_stop_string) stopping->set_include_stop_string(true);
  if (options.priority) request.set_priority(*options.priority);
  if (options.bypass_prefix_cache) request.set_bypass_prefix_cache(true);
  if (options.max_draft_tokens) {
    request.set_max_draft_tokens(*options.max_draft_tokens);
  }
  return request;
}

void SetDeadline(const GenerationOptions& options,
                 grpc::ClientContext* context) {
  context->set_deadline(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::duration<double>(options.timeout_seconds)));
}

}  // namespace descant::cli
