// What clients see of speculation, over real gRPC.
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

constexpr int kTokens = 100;

v1::GenerateRequest RequestOf(std::optional<int32_t> max_draft_tokens) {
  v1::GenerateRequest request;
  for (int i = 0; i < 20; ++i) request.mutable_token_ids()->add_ids(3 + i % 7);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(kTokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  if (max_draft_tokens) request.set_max_draft_tokens(*max_draft_tokens);
  return request;
}

v1::GenerateResponse Ask(TestServer* server,
                         const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status =
      server->generation().Generate(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

std::vector<int32_t> TokensOf(const v1::GenerateResponse& response) {
  if (response.choices_size() != 1) return {};
  const auto& ids = response.choices(0).token_ids();
  return {ids.begin(), ids.end()};
}

v1::GetStatsResponse StatsOf(TestServer* server) {
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server->admin().GetStats(&context, {}, &stats).ok());
  return stats;
}

// Drafts pay where rows are nearly free beside what every step takes: here a
// time that the machine's noise is small beside.
TestServerOptions WithDraftsThatPay() {
  TestServerOptions options;
  options.repeats = 95;
  options.on_step = [](const Batch&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  };
  return options;
}

TEST(SpeculationServiceTest, SavesStepsAndChangesNoToken) {
  TestServer server(WithDraftsThatPay());
  const v1::GenerateResponse plain = Ask(&server, RequestOf(0));
  EXPECT_EQ(plain.usage().draft_tokens(), 0u);
  const uint64_t steps = StatsOf(&server).steps();
  EXPECT_EQ(StatsOf(&server).draft_tokens(), 0u);

  const v1::GenerateResponse fast = Ask(&server, RequestOf(std::nullopt));
  EXPECT_EQ(TokensOf(fast), TokensOf(plain));
  EXPECT_EQ(fast.usage().completion_tokens(), uint32_t{kTokens});
  const uint32_t accepted = fast.usage().accepted_draft_tokens();
  EXPECT_GT(accepted, kTokens / 4u);
  EXPECT_GE(fast.usage().draft_tokens(), accepted);
  const v1::GetStatsResponse stats = StatsOf(&server);
  EXPECT_EQ(stats.draft_tokens(), fast.usage().draft_tokens());
  EXPECT_EQ(stats.accepted_draft_tokens(), accepted);
  // Each right one is a step less. The prompt is known by now.
  EXPECT_LE(stats.steps() - steps, kTokens - accepted);
  EXPECT_EQ(stats.kv_blocks_used(), 0);
}

TEST(SpeculationServiceTest, TheServersLimitHoldsForAll) {
  TestServer server(WithDraftsThatPay());
  const v1::GenerateResponse usual = Ask(&server, RequestOf(std::nullopt));
  v1::GenerateRequest request = RequestOf(1000);
  request.set_bypass_prefix_cache(true);
  const v1::GenerateResponse many = Ask(&server, request);
  EXPECT_EQ(TokensOf(many), TokensOf(usual));
  EXPECT_GT(many.usage().accepted_draft_tokens(), 0u);
}

// Tokens of a step behind the one that ends the answer are none of it.
TEST(SpeculationServiceTest, AStopStringWithinADraftEndsTheAnswer) {
  TestServer server({.repeats = 100});
  const v1::GenerateResponse whole = Ask(&server, RequestOf(0));
  ASSERT_EQ(whole.choices_size(), 1);
  const std::string& text = whole.choices(0).text();
  ASSERT_GT(text.size(), 20u);
  for (size_t at = text.size() / 2; at < text.size() / 2 + 8; ++at) {
    v1::GenerateRequest request = RequestOf(0);
    request.mutable_stopping()->add_stop_strings(text.substr(at, 6));
    const v1::GenerateResponse plain = Ask(&server, request);
    request.clear_max_draft_tokens();
    const v1::GenerateResponse fast = Ask(&server, request);
    EXPECT_EQ(fast.choices(0).text(), plain.choices(0).text());
    EXPECT_EQ(fast.choices(0).finish_reason(),
              plain.choices(0).finish_reason());
    EXPECT_EQ(fast.choices(0).stop_string(), plain.choices(0).stop_string());
    EXPECT_EQ(TokensOf(fast), TokensOf(plain));
    EXPECT_EQ(fast.usage().completion_tokens(),
              plain.usage().completion_tokens());
  }
}

TEST(SpeculationServiceTest, ANegativeNumberIsRefused) {
  TestServer server;
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status =
      server.generation().Generate(&context, RequestOf(-1), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace descant
