// What a client asked for, after validation at the edge.
#ifndef DESCANT_RUNTIME_CORE_REQUEST_H_
#define DESCANT_RUNTIME_CORE_REQUEST_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "adapters/slot_limits.h"
#include "runtime/base/clock.h"

namespace descant {

struct Adapter;  // adapters/adapter.h

// Made by the server, never by a client. Unique within a process.
using RequestId = uint64_t;

// Added to a token's logit; minus infinity bans the token.
struct LogitBias {
  int32_t token = 0;
  float bias = 0;
};

// What each option does to the distribution: runtime/model/sampler.h.
struct SamplingParams {
  // 0 is greedy; then top_k, top_p, min_p, typical_p and seed have no effect.
  float temperature = 1.0f;
  int32_t top_k = 0;                  // 0: off
  float top_p = 1.0f;                 // (0, 1]
  float min_p = 0.0f;                 // [0, 1]
  float typical_p = 1.0f;             // (0, 1]
  float repetition_penalty = 1.0f;    // > 0, of tokens of prompt and answer
  float presence_penalty = 0.0f;      // of tokens of the answer
  float frequency_penalty = 0.0f;     // the same, for each occurrence
  std::vector<LogitBias> logit_bias;  // of distinct tokens
  uint64_t seed = 0;   // always set: the edge draws one where the client gave
                       // none, and the answer names it
  int32_t n = 1;       // answers, >= 1
  int32_t choice = 0;  // index of the first answer; part of the noise's key
  int32_t max_tokens = 16;  // of each answer
  // Tokens before which nothing ends an answer: tokens that would are banned,
  // stop strings do not count.
  int32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;
  std::vector<std::string> stop_strings;
  bool include_stop_string = false;  // the answer's text ends with it
  // Log-probabilities of the chosen token and of the N likeliest; -1: none.
  int32_t top_logprobs = -1;
  // The same for the tokens of the prompt, from its second one on.
  int32_t prompt_logprobs = -1;
};

// Immutable once submitted. Answered by sampling.n sequences.
struct Request {
  RequestId id = 0;
  std::string tenant;         // "" where tenants are off
  int32_t tenant_weight = 1;  // its share against others': fairness.h
  SlotLimits tenant_slots;
  // Prompts and answers of the tenant that nobody uses keep at most so many
  // blocks; 0: no limit of its own. See prefix_cache.h.
  int32_t tenant_cached_blocks = 0;
  std::string client_request_id;  // echoed, never a key
  int32_t priority = 0;           // higher first, within a tenant
  std::vector<int32_t> prompt;    // token ids, at least one
  SamplingParams sampling;
  // Neither looks for its prompt in the prefix cache nor leaves it there.
  bool bypass_prefix_cache = false;
  // Tokens guessed ahead in a step, at most; no more than the scheduler's own
  // limit. 0: none. Changes no token.
  int32_t max_draft_tokens = std::numeric_limits<int32_t>::max();
  // The version the name stood for at arrival; null is the base model.
  std::shared_ptr<const Adapter> adapter;
  MonotonicTime arrival;
  MonotonicTime deadline = kNoDeadline;
};

enum class FinishReason {
  kNone,    // still running
  kLength,  // max_tokens or the context's end
  kEndOfSequence,
  kStopToken,
  kStopString,
  kCancelled,  // by the client
  kDeadline,
  kError,  // numeric fault or a failed runner
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_REQUEST_H_
