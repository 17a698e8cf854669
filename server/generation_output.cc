#include "server/generation_output.h"

#include <algorithm>
#include <chrono>

#include "runtime/base/reason.h"
#include "server/errors.h"

namespace descant {
namespace {

void SetDuration(Duration from, google::protobuf::Duration* to) {
  const auto nanos =
      std::chrono::duration_cast<std::chrono::nanoseconds>(from).count();
  to->set_seconds(nanos / 1000000000);
  to->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

constexpr size_t kBytesPerId = 4;
// A message and the pointer to it.
constexpr size_t kBytesPerLogprob = 48;
// Of text; few tokens are longer.
constexpr uint64_t kBytesPerToken = 16;

size_t FillLogprobs(const TokenEvent& event, v1::TokenLogprobs* entry) {
  entry->set_token_id(event.token);
  entry->set_logprob(event.logprob);
  for (const TokenLogprob& top : event.top) {
    v1::TopLogprob* likely = entry->add_top();
    likely->set_token_id(top.token);
    likely->set_logprob(top.logprob);
  }
  return kBytesPerLogprob * (1 + event.top.size());
}

}  // namespace

size_t AppendTokens(absl::Span<const TokenEvent> tokens,
                    const std::string& text, const OutputPlan& plan,
                    v1::Choice* choice) {
  size_t bytes = text.size();
  if (!text.empty()) choice->mutable_text()->append(text);
  if (plan.token_ids) {
    for (const TokenEvent& event : tokens) choice->add_token_ids(event.token);
    bytes += tokens.size() * kBytesPerId;
  }
  if (plan.logprobs) {
    for (const TokenEvent& event : tokens) {
      bytes += FillLogprobs(event, choice->add_logprobs());
    }
  }
  return bytes;
}

size_t AppendPromptTokens(
    std::optional<int32_t> first, absl::Span<const TokenEvent> tokens,
    google::protobuf::RepeatedPtrField<v1::TokenLogprobs>* entries) {
  size_t bytes = 0;
  if (first.has_value()) entries->Add()->set_token_id(*first);
  for (const TokenEvent& event : tokens) {
    bytes += FillLogprobs(event, entries->Add());
  }
  return bytes;
}

uint64_t AnswerBytes(const GenerationPlan& plan, int32_t prompt_tokens) {
  const auto entries = [](bool wanted, int32_t top) -> uint64_t {
    return wanted ? 1 + static_cast<uint64_t>(std::max(0, top)) : 0;
  };
  const SamplingParams& sampling = plan.sampling;
  const uint64_t prompt = static_cast<uint64_t>(prompt_tokens);
  uint64_t token = kBytesPerToken;
  if (plan.output.token_ids) token += kBytesPerId;
  token +=
      kBytesPerLogprob * entries(plan.output.logprobs, sampling.top_logprobs);
  uint64_t answer = token * static_cast<uint64_t>(sampling.max_tokens);
  if (plan.output.echo) answer += kBytesPerToken * prompt;
  const uint64_t message =
      answer * static_cast<uint64_t>(sampling.n) +
      kBytesPerLogprob * prompt *
          entries(plan.output.prompt_logprobs, sampling.prompt_logprobs);
  // Once more, encoded.
  return 2 * message;
}

void SetFinish(const ChoiceResult& result, v1::Choice* choice) {
  switch (result.reason) {
    case FinishReason::kLength:
      choice->set_finish_reason(v1::FINISH_REASON_LENGTH);
      break;
    case FinishReason::kEndOfSequence:
      choice->set_finish_reason(v1::FINISH_REASON_END_OF_SEQUENCE);
      break;
    case FinishReason::kStopToken:
      choice->set_finish_reason(v1::FINISH_REASON_STOP_TOKEN);
      choice->set_stop_token_id(result.stop_token);
      break;
    case FinishReason::kStopString:
      choice->set_finish_reason(v1::FINISH_REASON_STOP_STRING);
      choice->set_stop_string(result.stop);
      break;
    case FinishReason::kNone:
    case FinishReason::kCancelled:
    case FinishReason::kDeadline:
    case FinishReason::kError:
      break;
  }
}

void SetUsage(const RequestResult& result, v1::Usage* usage) {
  usage->set_prompt_tokens(static_cast<uint32_t>(result.prompt_tokens));
  usage->set_completion_tokens(static_cast<uint32_t>(result.generated_tokens));
  usage->set_cached_tokens(static_cast<uint32_t>(result.cached_tokens));
  usage->set_draft_tokens(static_cast<uint32_t>(result.draft_tokens));
  usage->set_accepted_draft_tokens(
      static_cast<uint32_t>(result.accepted_draft_tokens));
}

void SetTimings(const RequestTimings& timings, v1::Timings* proto) {
  SetDuration(timings.queue, proto->mutable_queue());
  SetDuration(timings.prefill, proto->mutable_prefill());
  SetDuration(timings.decode, proto->mutable_decode());
}

absl::Status ResultStatus(const RequestResult& result) {
  switch (result.reason) {
    case FinishReason::kLength:
    case FinishReason::kEndOfSequence:
    case FinishReason::kStopToken:
    case FinishReason::kStopString:
      return absl::OkStatus();
    case FinishReason::kCancelled:
      if (!result.status.ok()) return result.status;
      return absl::CancelledError("the call was cancelled");
    case FinishReason::kDeadline:
      if (!result.status.ok()) return result.status;
      return absl::DeadlineExceededError("the deadline passed");
    case FinishReason::kNone:
    case FinishReason::kError:
      if (!result.status.ok()) return result.status;
      return absl::InternalError("generation failed without a status");
  }
  return absl::InternalError("unknown finish reason");
}

}  // namespace descant
