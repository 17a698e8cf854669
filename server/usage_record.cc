#include "server/usage_record.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "server/json_lines_log.h"

namespace descant {
namespace {

// Whole microseconds: as many digits as the clock is good for.
double Seconds(Duration duration) {
  return std::round(ToSeconds(duration) * 1e6) / 1e6;
}

const char* FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kEndOfSequence:
      return "end_of_sequence";
    case FinishReason::kStopToken:
      return "stop_token";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kNone:
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

}  // namespace

nlohmann::ordered_json UsageLine(const UsageRecord& record,
                                 const RequestResult& result) {
  return {{"time", FormatLogTime(record.unix_seconds)},
          {"tenant", record.tenant},
          {"adapter", record.adapter},
          {"digest", record.digest},
          {"request_id", std::to_string(record.request_id)},
          {"client_request_id", record.client_request_id},
          {"prompt_tokens", result.prompt_tokens},
          {"cached_tokens", result.cached_tokens},
          {"generated_tokens", result.generated_tokens},
          {"draft_tokens", result.draft_tokens},
          {"accepted_draft_tokens", result.accepted_draft_tokens},
          {"queue_s", Seconds(result.timings.queue)},
          {"prefill_s", Seconds(result.timings.prefill)},
          {"decode_s", Seconds(result.timings.decode)},
          {"total_s", Seconds(record.total)},
          {"finish", FinishName(result.reason)},
          {"code", absl::StatusCodeToString(result.status.code())}};
}

}  // namespace descant
