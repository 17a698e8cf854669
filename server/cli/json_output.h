// Messages as the JSON that --json prints.
#ifndef DESCANT_SERVER_CLI_JSON_OUTPUT_H_
#define DESCANT_SERVER_CLI_JSON_OUTPUT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "descant/v1/adapter.pb.h"
#include "descant/v1/generation.pb.h"

namespace descant::cli {

using Json = nlohmann::ordered_json;

// {text, token_ids, logprobs, top_logprobs, adapter_digest, finish_reason,
//  usage{prompt_tokens, completion_tokens, cached_tokens, draft_tokens,
//  accepted_draft_tokens},
//  timings_ms{queue, prefill, decode}, seed, request_id}.
// top_logprobs holds, per token, a list of [id, logprob] pairs, best first;
// logprobs the chosen tokens' own. stop_string or stop_token_id where one ended
// it. These are the first answer's; where there are several, `choices` holds
// all of them: {index, text, token_ids, logprobs, top_logprobs, finish_reason}.
// With log-probabilities of the prompt also prompt_token_ids, prompt_logprobs
// (null for the first token) and prompt_top_logprobs.
Json AnswerJson(const v1::GenerateResponse& response);

Json AdapterJson(const v1::Adapter& adapter);

Json ModelJson(const v1::GetModelResponse& model);

// "length", "end_of_sequence", "stop_token", "stop_string".
std::string FinishReasonName(v1::FinishReason reason);

// "ready", "incompatible", "quarantined".
std::string AdapterStateName(v1::AdapterState state);

// "disk", "host", "device"; "unspecified" where it is not known.
std::string AdapterLevelName(v1::AdapterLevel level);

// "existing", "synced", "published", "deleted", "changed".
std::string AdapterEventName(v1::AdapterEvent event);

// "2026-11-23T20:01:23Z".
std::string FormatTime(const google::protobuf::Timestamp& time);

// Prints `value` as one line on standard output; bytes that are no UTF-8
// become U+FFFD.
void PrintJson(const Json& value);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_JSON_OUTPUT_H_
