// The command-line options of a generation, shared by `generate` and `chat`.
#ifndef DESCANT_SERVER_CLI_GENERATION_OPTIONS_H_
#define DESCANT_SERVER_CLI_GENERATION_OPTIONS_H_

#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "descant/v1/generation.pb.h"

namespace descant::cli {

// Unset options are left to the server's defaults.
struct GenerationOptions {
  std::optional<std::string> adapter;
  std::optional<int32_t> max_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> typical_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::vector<std::string> logit_bias;  // "ID:BIAS"
  std::optional<uint64_t> seed;
  std::vector<std::string> stop_strings;
  std::vector<int64_t> stop_token_ids;
  std::optional<int32_t> priority;
  bool bypass_prefix_cache = false;
  std::optional<int32_t> max_draft_tokens;
  bool ignore_eos = false;
  std::optional<int32_t> min_tokens;
  bool include_stop_string = false;
  double timeout_seconds = 600;
};

// REQUIRES: `options` outlives `command`.
void AddGenerationOptions(CLI::App* command, GenerationOptions* options);

// All but the prompt and the output options.
v1::GenerateRequest MakeRequest(const GenerationOptions& options);

void SetDeadline(const GenerationOptions& options,
                 grpc::ClientContext* context);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_GENERATION_OPTIONS_H_
