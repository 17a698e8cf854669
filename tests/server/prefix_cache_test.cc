// What clients see of the prefix cache, over real gRPC.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

constexpr int kPrompt = 100;
constexpr uint32_t kFullBlocks = 96;

struct Answer {
  std::vector<int32_t> tokens;
  uint32_t cached = 0;
};

Answer Ask(TestServer* server, const std::string& adapter = "",
           bool bypass = false) {
  grpc::ClientContext context;
  server->AddKey(&context);
  v1::GenerateRequest request;
  for (int i = 0; i < kPrompt; ++i) request.mutable_token_ids()->add_ids(3 + i);
  if (!adapter.empty()) request.set_adapter_id(adapter);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(8);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  if (bypass) request.set_bypass_prefix_cache(true);
  v1::GenerateResponse response;
  const grpc::Status status =
      server->generation().Generate(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.usage().prompt_tokens(), static_cast<uint32_t>(kPrompt));
  Answer answer;
  answer.cached = response.usage().cached_tokens();
  if (response.choices_size() == 1) {
    const auto& ids = response.choices(0).token_ids();
    answer.tokens.assign(ids.begin(), ids.end());
  }
  return answer;
}

v1::GetStatsResponse StatsOf(TestServer* server) {
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server->admin().GetStats(&context, {}, &stats).ok());
  return stats;
}

TEST(PrefixCacheServiceTest, TheSecondTimeItIsKnownAndTheTokensAreTheSame) {
  TestServer server;
  ASSERT_TRUE(server.Upload("one", 1).ok());
  ASSERT_TRUE(server.Upload("two", 2).ok());
  for (const char* adapter : {"", "one", "two"}) {
    const Answer first = Ask(&server, adapter);
    EXPECT_EQ(first.cached, 0u) << adapter;
    const Answer second = Ask(&server, adapter);
    EXPECT_EQ(second.cached, kFullBlocks) << adapter;
    EXPECT_EQ(second.tokens, first.tokens) << adapter;
    const Answer third = Ask(&server, adapter, /*bypass=*/true);
    EXPECT_EQ(third.cached, 0u) << adapter;
    EXPECT_EQ(third.tokens, first.tokens) << adapter;
  }
  EXPECT_EQ(StatsOf(&server).kv_blocks_used(), 0);
  EXPECT_GE(StatsOf(&server).kv_blocks_cached(), 9);
}

// The name stands for other weights: nothing of the former ones is used.
TEST(PrefixCacheServiceTest, AReplacedAdapterFindsNothing) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  Ask(&server, "a");
  UploadPlan plan = server.PlanUpload("a", 2);
  plan.header()->set_replace(true);
  ASSERT_TRUE(server.Send(plan).ok());
  EXPECT_EQ(Ask(&server, "a").cached, 0u);
  EXPECT_EQ(Ask(&server, "a").cached, kFullBlocks);
}

// P6. Also for the base model and for the same bytes under the same name.
TEST(PrefixCacheServiceTest, AnotherTenantsPromptsAreUnknown) {
  std::string file = "tenants:\n";
  for (const char* id : {"acme", "globex"}) {
    absl::StrAppend(&file, "- {id: ", id,
                    ", keys: [{id: k, sha256: ", HexOf(Sha256Of(id)), "}]}\n");
  }
  auto tenants = TenantDirectory::Parse(file, "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  TestServer server({.tenants = *tenants});
  for (const char* tenant : {"acme", "globex"}) {
    server.UseKey(tenant);
    ASSERT_TRUE(server.Upload("a", 1).ok());
    EXPECT_EQ(Ask(&server).cached, 0u) << tenant;
    EXPECT_EQ(Ask(&server, "a").cached, 0u) << tenant;
    EXPECT_EQ(Ask(&server).cached, kFullBlocks) << tenant;
    EXPECT_EQ(Ask(&server, "a").cached, kFullBlocks) << tenant;
  }
}

}  // namespace
}  // namespace descant
