// What a tenants file says of roles and limits, over real gRPC; and reading it
// again.
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;

// The entry of a tenant whose key is its id.
std::string EntryOf(const std::string& id, const std::string& more = "") {
  return absl::StrCat("- {id: ", id,
                      ", keys: [{id: k, sha256: ", HexOf(Sha256Of(id)), "}]",
                      more, "}\n");
}

class TenantLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "limits-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override {
    hold_ = false;
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Write(const std::string& entries) {
    std::ofstream(Path(), std::ios::trunc) << "tenants:\n" << entries;
    ASSERT_EQ(chmod(Path().c_str(), 0600), 0);
  }
  std::string Path() const { return folder_ + "/tenants.yaml"; }

  void Start(const std::string& entries) {
    Write(entries);
    auto tenants = TenantDirectory::Load(Path());
    ASSERT_TRUE(tenants.ok()) << tenants.status();
    TestServerOptions options;
    options.tenants = *tenants;
    options.tenants_file = Path();
    options.on_step = [this](const Batch&) {
      while (hold_) {
        held_ = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    };
    server_ = std::make_unique<TestServer>(options);
  }

  grpc::Status Generate(const std::string& key, int prompt = 1, int n = 1,
                        int max_tokens = 2) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    v1::GenerateRequest request;
    for (int i = 0; i < prompt; ++i) request.mutable_token_ids()->add_ids(5);
    request.set_n(n);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    request.mutable_stopping()->set_ignore_eos(true);
    v1::GenerateResponse response;
    return server_->generation().Generate(&context, request, &response);
  }

  grpc::Status Upload(const std::string& key, const std::string& name,
                      uint64_t seed, int32_t rank = 0) {
    server_->UseKey(key);
    return server_->Send(server_->PlanUpload(name, seed, rank));
  }

  grpc::Status Stats(const std::string& key) {
    grpc::ClientContext context;
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
    v1::GetStatsResponse stats;
    return server_->admin().GetStats(&context, {}, &stats);
  }

  grpc::Status Load(const std::string& key) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    v1::LoadAdapterRequest request;
    request.mutable_adapter()->set_adapter_id("absent");
    v1::LoadAdapterResponse response;
    return server_->admin().LoadAdapter(&context, request, &response);
  }

  grpc::Status Verify(const std::string& key) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    const auto stream = server_->admin().VerifyStore(&context, {});
    v1::VerifyStoreResponse message;
    while (stream->Read(&message)) {
    }
    return stream->Finish();
  }

  std::string folder_;
  std::atomic<bool> hold_{false};  // no step begins
  std::atomic<bool> held_{false};  // one would
  std::unique_ptr<TestServer> server_;
};

template <typename Detail>
Detail DetailOf(const grpc::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(status.error_details()));
  Detail detail;
  for (const auto& any : rich.details()) {
    if (any.Is<Detail>()) {
      EXPECT_TRUE(any.UnpackTo(&detail));
    }
  }
  return detail;
}

TEST_F(TenantLimitsTest, RolesSayWhoMayDoWhat) {
  Start(EntryOf("reader", ", roles: [generate]") +
        EntryOf("writer", ", roles: [manage-adapters]") + EntryOf("both"));
  EXPECT_TRUE(Generate("reader").ok());
  EXPECT_TRUE(Upload("writer", "a", 1).ok());
  EXPECT_TRUE(Generate("both").ok());
  EXPECT_TRUE(Upload("both", "a", 1).ok());
  for (const grpc::Status& refused :
       {Generate("writer"), Upload("reader", "a", 1)}) {
    EXPECT_EQ(refused.error_code(), StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(ReasonIn(refused), "ROLE_MISSING");
  }
}

// Row 79. The admin listener of this server is for this machine alone.
TEST_F(TenantLimitsTest, ATenantsKeyIsNoOperators) {
  Start(EntryOf("acme") + EntryOf("ops", ", roles: [operator]"));
  EXPECT_TRUE(Stats("").ok());
  EXPECT_TRUE(Stats("ops").ok());
  EXPECT_EQ(Load("ops").error_code(), StatusCode::NOT_FOUND);
  EXPECT_TRUE(Verify("ops").ok());
  for (const grpc::Status& refused :
       {Stats("acme"), Load("acme"), Verify("acme")}) {
    EXPECT_EQ(refused.error_code(), StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(ReasonIn(refused), "ROLE_MISSING");
  }
  EXPECT_EQ(Stats("nobody").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Generate("ops").error_code(), StatusCode::PERMISSION_DENIED);
}

// Row 72.
TEST_F(TenantLimitsTest, RequestsASecond) {
  Start(EntryOf("acme", ", limits: {requests-per-second: 0.1}") +
        EntryOf("globex"));
  EXPECT_TRUE(Generate("acme").ok());
  const grpc::Status refused = Generate("acme");
  EXPECT_EQ(refused.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(refused), "TENANT_REQUEST_LIMIT");
  EXPECT_EQ(
      DetailOf<google::rpc::QuotaFailure>(refused).violations(0).subject(),
      "tenant");
  const auto delay = DetailOf<google::rpc::RetryInfo>(refused).retry_delay();
  EXPECT_GE(delay.seconds(), 5);
  EXPECT_LE(delay.seconds(), 10);
  EXPECT_TRUE(Generate("globex").ok());
}

TEST_F(TenantLimitsTest, TokensASecond) {
  Start(EntryOf("acme", ", limits: {tokens-per-second: 1}") +
        EntryOf("globex"));
  EXPECT_TRUE(Generate("acme", /*prompt=*/20, /*n=*/2, /*max_tokens=*/30).ok());
  const grpc::Status refused = Generate("acme");
  EXPECT_EQ(ReasonIn(refused), "TENANT_TOKEN_LIMIT");
  // 20 of the prompt and 60 of the answers, one of them free.
  const auto delay = DetailOf<google::rpc::RetryInfo>(refused).retry_delay();
  EXPECT_GE(delay.seconds(), 70);
  EXPECT_LE(delay.seconds(), 80);
  EXPECT_TRUE(Generate("globex").ok());
}

TEST_F(TenantLimitsTest, AnswersAtOnceAndTokensThatWait) {
  Start(EntryOf("acme", ", limits: {sequences: 3, queued-tokens: 100}") +
        EntryOf("globex"));
  hold_ = true;
  std::vector<std::thread> waiting;
  std::atomic<int> done{0};
  const auto ask = [&](const char* key, int prompt, int n) {
    waiting.emplace_back([this, key, prompt, n, &done] {
      EXPECT_TRUE(Generate(key, prompt, n).ok());
      ++done;
    });
  };
  ask("acme", 60, 2);
  while (!held_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  grpc::Status refused = Generate("acme", 1, 2);
  EXPECT_EQ(refused.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(refused), "TENANT_SEQUENCE_LIMIT");
  refused = Generate("acme", 60, 1);
  EXPECT_EQ(ReasonIn(refused), "TENANT_QUEUE_LIMIT");
  EXPECT_TRUE(HasRetryInfo(refused));
  ask("globex", 100, 4);
  EXPECT_EQ(done, 0);
  hold_ = false;
  for (std::thread& thread : waiting) thread.join();
  // All is given back.
  EXPECT_TRUE(Generate("acme", 100, 3).ok());
}

// Row 13, for one tenant.
TEST_F(TenantLimitsTest, AdaptersBytesAndRanks) {
  Start(EntryOf("few", ", limits: {adapters: 1}") +
        EntryOf("small", ", limits: {adapter-bytes: 100}") +
        EntryOf("low", ", limits: {adapter-rank: 2}") + EntryOf("free"));
  EXPECT_TRUE(Upload("few", "a", 1).ok());
  const grpc::Status many = Upload("few", "b", 2);
  EXPECT_EQ(many.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(many), "ADAPTER_QUOTA");
  const grpc::Status large = Upload("small", "a", 1);
  EXPECT_EQ(large.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(large), "STORE_QUOTA");
  EXPECT_TRUE(Upload("low", "a", 1, /*rank=*/2).ok());
  const grpc::Status high = Upload("low", "b", 1, /*rank=*/3);
  EXPECT_EQ(high.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Upload("free", "a", 1).ok());
  EXPECT_TRUE(Upload("free", "b", 2, /*rank=*/3).ok());
}

// Row 94, and rotation of a key.
TEST_F(TenantLimitsTest, TheFileIsReadAgain) {
  Start(EntryOf("acme"));
  EXPECT_TRUE(Generate("acme").ok());
  EXPECT_EQ(Generate("globex").error_code(), StatusCode::UNAUTHENTICATED);
  Write("- {id: globex\n");
  server_->app().Reload();
  EXPECT_TRUE(Generate("acme").ok()) << "a bad file changes nothing";
  Write(EntryOf("globex", ", limits: {requests-per-second: 0.1}"));
  server_->app().Reload();
  EXPECT_EQ(Generate("acme").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(Generate("globex").ok());
  EXPECT_EQ(ReasonIn(Generate("globex")), "TENANT_REQUEST_LIMIT");
}

}  // namespace
}  // namespace descant
