#include "server/usage_record.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"

namespace descant {
namespace {

TEST(UsageRecordTest, ALineHasTheseKeysInThisOrder) {
  UsageRecord record;
  record.unix_seconds = 1795726820.1234;
  record.tenant = "acme";
  record.adapter = "acme/pirate";
  record.digest = "sha256:ce";
  record.request_id = 17;
  record.client_request_id = "a\"b\n";
  record.total = std::chrono::microseconds(1234567);
  RequestResult result;
  result.reason = FinishReason::kStopString;
  result.prompt_tokens = 411;
  result.cached_tokens = 384;
  result.generated_tokens = 64;
  result.timings.queue = std::chrono::nanoseconds(1234567);
  result.timings.prefill = std::chrono::milliseconds(30);
  nlohmann::ordered_json line = UsageLine(record, result);
  // Of speculation, where there is any.
  line.erase("draft_tokens");
  line.erase("accepted_draft_tokens");
  EXPECT_EQ(line.dump(),
            R"({"time":"2026-11-26T21:00:20.123Z","tenant":"acme",)"
            R"("adapter":"acme/pirate","digest":"sha256:ce","request_id":"17",)"
            R"("client_request_id":"a\"b\n","prompt_tokens":411,)"
            R"("cached_tokens":384,"generated_tokens":64,"queue_s":0.001235,)"
            R"("prefill_s":0.03,"decode_s":0.0,"total_s":1.234567,)"
            R"("finish":"stop_string","code":"OK"})");
}

TEST(UsageRecordTest, HowItEnded) {
  const std::pair<FinishReason, const char*> reasons[] = {
      {FinishReason::kLength, "length"},
      {FinishReason::kEndOfSequence, "end_of_sequence"},
      {FinishReason::kStopToken, "stop_token"},
      {FinishReason::kCancelled, "cancelled"},
      {FinishReason::kDeadline, "deadline"},
      {FinishReason::kError, "error"}};
  for (const auto& [reason, name] : reasons) {
    RequestResult result;
    result.reason = reason;
    EXPECT_EQ(UsageLine({}, result)["finish"], name);
  }
  RequestResult failed;
  failed.reason = FinishReason::kError;
  failed.status = absl::UnavailableError("secret text");
  const auto line = UsageLine({}, failed);
  EXPECT_EQ(line["code"], "UNAVAILABLE");
  EXPECT_EQ(line.dump().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace descant
