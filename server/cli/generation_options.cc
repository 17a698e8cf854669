#include "server/cli/generation_options.h"

#include <chrono>

#include "server/cli/text.h"

namespace descant::cli {

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
  command->add_option("--seed", options->seed, "Same seed, same answer");
  command
      ->add_option("--stop", options->stop_strings,
                   "End the answer before this text (may be repeated)")
      ->allow_extra_args(false);
  command
      ->add_option("--stop-token-ids", options->stop_token_ids,
                   "End the answer with one of these: 1,2,3")
      ->delimiter(',');
  command->add_option("--priority", options->priority,
                      "Among your own requests, -100 to 100");
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
  if (options.priority) request.set_priority(*options.priority);
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
