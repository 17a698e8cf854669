// Total validation of a generation: after it, nothing a client sent can
// surprise the engine. Every violation is INVALID_ARGUMENT, names its field
// (one refusal names all that are wrong, but for those of the prompt), and is
// found before anything is allocated in proportion to it.
#ifndef DESCANT_SERVER_REQUEST_VALIDATION_H_
#define DESCANT_SERVER_REQUEST_VALIDATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/name.h"
#include "descant/v1/generation.pb.h"
#include "runtime/core/request.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {

// What the model can take.
struct ModelLimits {
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;
  // Bytes of text that can fit at all: no longer than the longest token
  // times max_model_len where tokens have a longest text, and
  // limits::kMaxPromptBytes.
  uint64_t max_prompt_bytes = 0;
  // Tokens that end a sequence.
  int32_t eos_tokens = 0;
};

// What the answer shall contain.
struct OutputPlan {
  bool logprobs = false;
  bool token_ids = false;
  bool echo = false;
  bool prompt_logprobs = false;
};

// A generation's fields but for its prompt.
struct GenerationPlan {
  std::optional<AdapterId> adapter;
  SamplingParams sampling;  // n is how many are generated: best_of
  int32_t n = 1;            // how many are given
  bool has_seed = false;
  bool has_max_tokens = false;
  OutputPlan output;
  std::string client_request_id;
  int32_t priority = 0;
  bool bypass_prefix_cache = false;
  std::optional<int32_t> max_draft_tokens;
};

// `owners`: adapter_id may be another tenant's, as owner/name.
absl::StatusOr<GenerationPlan> ValidateGenerate(
    const v1::GenerateRequest& request, const ModelLimits& limits,
    bool owners = false);

// The tokens of a prompt, at least one and at most max_model_len. `chat` is
// null for a model whose template is not rendered: FAILED_PRECONDITION
// CHAT_TEMPLATE. Slow for long texts: not for RPC threads.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(
    const v1::GenerateRequest& request, const Tokenizer& tokenizer,
    const ChatTemplate* chat, const ModelLimits& limits);

// The same for Tokenize, whose answer may be empty or longer than a context.
absl::StatusOr<std::vector<int32_t>> EncodeInput(
    const v1::TokenizeRequest& request, const Tokenizer& tokenizer,
    const ChatTemplate* chat, const ModelLimits& limits);

// Token ids of a client as ids of the vocabulary.
absl::StatusOr<std::vector<int32_t>> ValidateTokenIds(
    const google::protobuf::RepeatedField<int64_t>& ids,
    absl::string_view field, const ModelLimits& limits);

// Makes prompt and max_tokens fit into the context, or says that they don't.
absl::Status FitMaxTokens(int32_t prompt_tokens, const ModelLimits& limits,
                          GenerationPlan* plan);

// Bytes of the longest text that can be a prompt.
uint64_t MaxPromptBytes(const Tokenizer& tokenizer, int32_t max_model_len);

}  // namespace descant

#endif  // DESCANT_SERVER_REQUEST_VALIDATION_H_
