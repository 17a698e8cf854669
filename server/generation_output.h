// What the engine says, as messages.
#ifndef DESCANT_SERVER_GENERATION_OUTPUT_H_
#define DESCANT_SERVER_GENERATION_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "descant/v1/common.pb.h"
#include "runtime/engine.h"
#include "server/request_validation.h"

namespace descant {

// Appends to `choice`; returns about how many bytes of memory that takes.
size_t AppendTokens(absl::Span<const TokenEvent> tokens,
                    const std::string& text, const OutputPlan& plan,
                    v1::Choice* choice);

// The prompt's next tokens; `first` is its first one, which has no
// log-probability. Returns bytes, as above.
size_t AppendPromptTokens(
    std::optional<int32_t> first, absl::Span<const TokenEvent> tokens,
    google::protobuf::RepeatedPtrField<v1::TokenLogprobs>* entries);

// Most memory that the answers to a prompt of that length take, as a message
// and on their way out. `max_tokens` fits into the context by now.
uint64_t AnswerBytes(const GenerationPlan& plan, int32_t prompt_tokens);

void SetFinish(const ChoiceResult& result, v1::Choice* choice);
void SetUsage(const RequestResult& result, v1::Usage* usage);
void SetTimings(const RequestTimings& timings, v1::Timings* proto);

// OK where the result is an answer.
absl::Status ResultStatus(const RequestResult& result);

}  // namespace descant

#endif  // DESCANT_SERVER_GENERATION_OUTPUT_H_
