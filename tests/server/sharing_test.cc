// Adapters that a tenant lets others use, over real gRPC with a real engine and
// the fake runner.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kPrompt = 100;
constexpr uint32_t kFullBlocks = 96;

// Each tenant's key is its id.
std::shared_ptr<const TenantDirectory> Tenants(const std::string& globex = "") {
  std::string file = "tenants:\n";
  for (const std::string id : {"acme", "globex", "initech"}) {
    absl::StrAppend(&file, "- {id: ", id,
                    ", keys: [{id: k, sha256: ", HexOf(Sha256Of(id)), "}]",
                    id == "globex" ? globex : "", "}\n");
  }
  auto tenants = TenantDirectory::Parse(file, "t.yaml");
  EXPECT_TRUE(tenants.ok()) << tenants.status();
  return *tenants;
}

v1::GenerateRequest RequestFor(const std::string& adapter, int max_tokens = 8) {
  v1::GenerateRequest request;
  for (int i = 0; i < kPrompt; ++i) request.mutable_token_ids()->add_ids(3 + i);
  request.set_adapter_id(adapter);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

struct Answer {
  grpc::Status status;
  std::string digest;
  std::vector<int32_t> tokens;
  uint32_t cached = 0;
};

class Clients {
 public:
  explicit Clients(TestServer* server) : server_(*server) {}

  Answer Ask(const std::string& tenant, const std::string& adapter) {
    server_.UseKey(tenant);
    grpc::ClientContext context;
    server_.AddKey(&context);
    v1::GenerateResponse response;
    Answer answer;
    answer.status =
        server_.generation().Generate(&context, RequestFor(adapter), &response);
    answer.digest = response.adapter_digest();
    answer.cached = response.usage().cached_tokens();
    if (response.choices_size() == 1) {
      const auto& ids = response.choices(0).token_ids();
      answer.tokens.assign(ids.begin(), ids.end());
    }
    return answer;
  }

  // The digest; empty where it was refused.
  std::string Upload(const std::string& tenant, const std::string& name,
                     uint64_t seed) {
    server_.UseKey(tenant);
    UploadPlan plan = server_.PlanUpload(name, seed);
    plan.header()->set_replace(true);
    (*plan.header()->mutable_labels())["note"] = "of the owner";
    v1::UploadAdapterResponse response;
    const grpc::Status status = server_.Send(plan, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.adapter().digest();
  }

  grpc::Status Share(const std::string& tenant, const std::string& name,
                     const std::vector<std::string>& with, bool all = false,
                     v1::Adapter* adapter = nullptr) {
    server_.UseKey(tenant);
    grpc::ClientContext context;
    server_.AddKey(&context);
    v1::ShareAdapterRequest request;
    request.set_adapter_id(name);
    request.mutable_sharing()->set_all_tenants(all);
    for (const std::string& id : with)
      request.mutable_sharing()->add_tenants(id);
    v1::ShareAdapterResponse response;
    const grpc::Status status =
        server_.adapters().ShareAdapter(&context, request, &response);
    if (adapter != nullptr) *adapter = response.adapter();
    return status;
  }

  v1::GetAdapterResponse Get(const std::string& tenant, const std::string& id,
                             StatusCode expected = StatusCode::OK) {
    server_.UseKey(tenant);
    v1::GetAdapterResponse response;
    const grpc::Status status = GetAdapter(&server_, id, &response);
    EXPECT_EQ(status.error_code(), expected) << id;
    return response;
  }

  v1::ListAdaptersResponse ListShared(const std::string& tenant,
                                      const std::string& token = "") {
    server_.UseKey(tenant);
    grpc::ClientContext context;
    server_.AddKey(&context);
    v1::ListAdaptersRequest request;
    request.set_shared_with_me(true);
    request.set_page_size(1);
    request.set_page_token(token);
    v1::ListAdaptersResponse response;
    EXPECT_TRUE(
        server_.adapters().ListAdapters(&context, request, &response).ok());
    return response;
  }

  grpc::Status Delete(const std::string& tenant, const std::string& id) {
    server_.UseKey(tenant);
    return DeleteAdapter(&server_, id);
  }

  v1::GetStatsResponse Stats() {
    grpc::ClientContext context;
    v1::GetStatsResponse stats;
    EXPECT_TRUE(server_.admin().GetStats(&context, {}, &stats).ok());
    return stats;
  }

  std::string Metrics() {
    return RenderMetrics(*server_.app().edge()->metrics);
  }

 private:
  TestServer& server_;
};

class SharingServiceTest : public ::testing::Test {
 protected:
  TestServer server_{{.tenants = Tenants()}};
  Clients clients_{&server_};
};

TEST_F(SharingServiceTest, ItIsUsedUnderItsOwnersName) {
  const std::string digest = clients_.Upload("acme", "a", 1);
  EXPECT_EQ(clients_.Ask("globex", "acme/a").status.error_code(),
            StatusCode::NOT_FOUND);
  v1::Adapter shared;
  ASSERT_TRUE(
      clients_.Share("acme", "a", {"globex", "no-such"}, false, &shared).ok())
      << "whether there is such a tenant is not for an owner to learn";
  EXPECT_EQ(shared.name(), "a");
  EXPECT_THAT(shared.sharing().tenants(),
              ::testing::ElementsAre("globex", "no-such"));

  const Answer own = clients_.Ask("acme", "a");
  for (const std::string& id : {std::string("acme/a"), "acme/a@" + digest}) {
    const Answer answer = clients_.Ask("globex", id);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.digest, digest);
    EXPECT_EQ(answer.tokens, own.tokens);
    EXPECT_EQ(clients_.Ask("initech", id).status.error_code(),
              StatusCode::NOT_FOUND);
    EXPECT_TRUE(clients_.Ask("acme", id).status.ok()) << "the owner's own";
  }
  EXPECT_EQ(clients_.Ask("globex", "a").status.error_code(),
            StatusCode::NOT_FOUND);
  // One name in the metrics, one slot, one load, whoever asks.
  EXPECT_THAT(clients_.Metrics(),
              HasSubstr("requests_total{adapter=\"acme/a\"} 5"));
  EXPECT_THAT(clients_.Metrics(), Not(HasSubstr("globex/a")));
  EXPECT_EQ(clients_.Stats().adapter_slots_used(), 1);
  EXPECT_EQ(clients_.Stats().adapter_loads(), 1u);
}

TEST_F(SharingServiceTest, AllVersionsUntilItEnds) {
  const std::string first = clients_.Upload("acme", "a", 1);
  ASSERT_TRUE(clients_.Share("acme", "a", {}, /*all=*/true).ok());
  EXPECT_EQ(clients_.Ask("globex", "acme/a").digest, first);
  const std::string second = clients_.Upload("acme", "a", 2);
  EXPECT_EQ(clients_.Ask("globex", "acme/a").digest, second);
  EXPECT_EQ(clients_.Ask("globex", "acme/a@" + first).digest, first);
  // Replaced as a whole.
  ASSERT_TRUE(clients_.Share("acme", "a", {"initech"}).ok());
  EXPECT_FALSE(clients_.Ask("globex", "acme/a").status.ok());
  EXPECT_FALSE(clients_.Ask("globex", "acme/a@" + first).status.ok());
  EXPECT_EQ(clients_.Ask("initech", "acme/a").digest, second);
  ASSERT_TRUE(clients_.Share("acme", "a", {}).ok());
  EXPECT_FALSE(clients_.Ask("initech", "acme/a").status.ok());
  EXPECT_FALSE(clients_.Get("acme", "a").adapter().has_sharing());
  // A name that comes back is its owner's alone.
  ASSERT_TRUE(clients_.Share("acme", "a", {"globex"}).ok());
  ASSERT_TRUE(clients_.Delete("acme", "a").ok());
  EXPECT_FALSE(clients_.Ask("globex", "acme/a").status.ok());
  clients_.Upload("acme", "a", 1);
  EXPECT_FALSE(clients_.Ask("globex", "acme/a").status.ok());
}

TEST_F(SharingServiceTest, WhatOthersSeeOfIt) {
  clients_.Upload("acme", "a", 1);
  const std::string digest = clients_.Upload("acme", "a", 2);
  clients_.Upload("acme", "b", 3);
  ASSERT_TRUE(clients_.Share("acme", "a", {"globex", "initech"}).ok());
  ASSERT_TRUE(clients_.Share("acme", "b", {}, /*all=*/true).ok());
  const v1::GetAdapterResponse own = clients_.Get("acme", "acme/a");
  EXPECT_EQ(own.adapter().name(), "a");
  EXPECT_EQ(own.adapter().sharing().tenants_size(), 2);
  EXPECT_EQ(own.adapter().labels_size(), 1);

  const v1::GetAdapterResponse seen = clients_.Get("globex", "acme/a");
  ASSERT_EQ(seen.versions_size(), 2);
  EXPECT_EQ(seen.adapter().digest(), digest);
  for (const v1::Adapter& version : seen.versions()) {
    EXPECT_EQ(version.name(), "acme/a");
    EXPECT_EQ(version.state(), v1::ADAPTER_STATE_READY);
    EXPECT_FALSE(version.has_sharing());
    EXPECT_EQ(version.labels_size(), 0);
    EXPECT_EQ(version.base_model_name_or_path(), "");
    EXPECT_EQ(version.level(), v1::ADAPTER_LEVEL_UNSPECIFIED);
  }
  clients_.Get("globex", "a", StatusCode::NOT_FOUND);

  const v1::ListAdaptersResponse page = clients_.ListShared("globex");
  ASSERT_EQ(page.adapters_size(), 1);
  EXPECT_EQ(page.total_size(), 2u);
  EXPECT_EQ(page.adapters(0).name(), "acme/a");
  EXPECT_FALSE(page.adapters(0).has_sharing());
  const v1::ListAdaptersResponse next =
      clients_.ListShared("globex", page.next_page_token());
  ASSERT_EQ(next.adapters_size(), 1);
  EXPECT_EQ(next.adapters(0).name(), "acme/b");
  EXPECT_EQ(next.next_page_token(), "");
  EXPECT_EQ(clients_.ListShared("acme").total_size(), 0u);
}

// Use, and nothing else.
TEST_F(SharingServiceTest, OthersChangeAndDownloadNothing) {
  const std::string first = clients_.Upload("acme", "a", 1);
  const std::string digest = clients_.Upload("acme", "a", 2);
  ASSERT_TRUE(clients_.Share("acme", "a", {}, /*all=*/true).ok());
  server_.UseKey("globex");
  for (const std::string& id :
       {std::string("acme/a"), "acme/a@" + digest, "acme/a@" + first}) {
    EXPECT_EQ(DeleteAdapter(&server_, id).error_code(), StatusCode::NOT_FOUND);
    EXPECT_EQ(DownloadAdapter(&server_, id).status.error_code(),
              StatusCode::NOT_FOUND);
    grpc::ClientContext context;
    server_.AddKey(&context);
    v1::RollbackAdapterRequest request;
    request.set_adapter_id(id);
    v1::RollbackAdapterResponse response;
    EXPECT_EQ(server_.adapters()
                  .RollbackAdapter(&context, request, &response)
                  .error_code(),
              StatusCode::NOT_FOUND);
  }
  EXPECT_EQ(clients_.Share("globex", "acme/a", {"globex"}).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonIn(server_.Upload("acme/a", 3)), "ADAPTER_NAME_INVALID");
  const v1::GetAdapterResponse still = clients_.Get("acme", "a");
  EXPECT_EQ(still.adapter().digest(), digest);
  EXPECT_TRUE(still.adapter().sharing().all_tenants());
  // The owner may say its own id.
  server_.UseKey("acme");
  EXPECT_TRUE(DownloadAdapter(&server_, "acme/a").status.ok());
  EXPECT_TRUE(DeleteAdapter(&server_, "acme/a").ok());
}

// P6: the weights are shared, what was computed with them is not.
TEST_F(SharingServiceTest, NoCacheHitCrossesTenants) {
  clients_.Upload("acme", "a", 1);
  ASSERT_TRUE(clients_.Share("acme", "a", {}, /*all=*/true).ok());
  const Answer owners = clients_.Ask("acme", "a");
  EXPECT_EQ(owners.cached, 0u);
  EXPECT_EQ(clients_.Ask("acme", "a").cached, kFullBlocks);
  for (const char* tenant : {"globex", "initech"}) {
    const Answer first = clients_.Ask(tenant, "acme/a");
    EXPECT_EQ(first.cached, 0u) << tenant;
    EXPECT_EQ(first.tokens, owners.tokens);
    EXPECT_EQ(clients_.Ask(tenant, "acme/a").cached, kFullBlocks) << tenant;
  }
  // The same weights under a name of its own are the same to a tenant.
  clients_.Upload("globex", "mine", 1);
  EXPECT_EQ(clients_.Ask("globex", "mine").cached, kFullBlocks);
  EXPECT_EQ(clients_.Ask("acme", "a").cached, kFullBlocks);
  clients_.Upload("initech", "mine", 2);
  EXPECT_EQ(clients_.Ask("initech", "mine").cached, 0u);
  EXPECT_THAT(clients_.Metrics(),
              ContainsRegex(absl::StrCat("prefix_cache_hits_total\\{[^}]*\\} ",
                                         5 * kFullBlocks, "\n")));
}

TEST_F(SharingServiceTest, WhatIsNoSharing) {
  const std::string digest = clients_.Upload("acme", "a", 1);
  const auto reason = [&](const std::string& id,
                          const std::vector<std::string>& with,
                          bool all = false) {
    return ReasonIn(clients_.Share("acme", id, with, all));
  };
  EXPECT_EQ(reason("a@" + digest, {"globex"}), "FIELD_INVALID");
  EXPECT_EQ(reason("a", {"globex"}, /*all=*/true), "SHARING_INVALID");
  EXPECT_EQ(reason("a", {"not a tenant"}), "SHARING_INVALID");
  EXPECT_EQ(reason("a", std::vector<std::string>(65, "t")), "SHARING_INVALID");
  EXPECT_EQ(reason("", {"globex"}), "ADAPTER_NAME_INVALID");
  EXPECT_EQ(reason("b", {"globex"}), "ADAPTER_NOT_FOUND");
  EXPECT_FALSE(clients_.Get("acme", "a").adapter().has_sharing());
}

TEST_F(SharingServiceTest, TheOwnersWatchTellsOfIt) {
  clients_.Upload("acme", "a", 1);
  server_.UseKey("acme");
  grpc::ClientContext context;
  server_.AddKey(&context);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(20));
  const auto reader = server_.adapters().WatchAdapters(&context, {});
  v1::WatchAdaptersResponse change;
  ASSERT_TRUE(reader->Read(&change));
  ASSERT_TRUE(reader->Read(&change));
  EXPECT_EQ(change.event(), v1::ADAPTER_EVENT_SYNCED);
  ASSERT_TRUE(clients_.Share("acme", "a", {"globex"}).ok());
  ASSERT_TRUE(reader->Read(&change));
  EXPECT_EQ(change.event(), v1::ADAPTER_EVENT_CHANGED);
  EXPECT_EQ(change.adapter().sharing().tenants(0), "globex");
  context.TryCancel();
  reader->Finish();
}

// Who asks pays: the owner's limits are not those of a request of another's.
TEST(SharingLimitsTest, WhoAsksIsLimited) {
  TestServer server(
      {.tenants = Tenants(", limits: {requests-per-second: 0.01}")});
  Clients clients(&server);
  clients.Upload("acme", "a", 1);
  ASSERT_TRUE(clients.Share("acme", "a", {"globex"}).ok());
  EXPECT_TRUE(clients.Ask("globex", "acme/a").status.ok());
  EXPECT_EQ(ReasonIn(clients.Ask("globex", "acme/a").status),
            "TENANT_REQUEST_LIMIT");
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(clients.Ask("acme", "a").status.ok());
  }
}

// What runs when the sharing ends, or the name goes, runs to its end.
TEST(SharingInFlightTest, RunningRequestsEndAsTheyWould) {
  std::atomic<bool> hold{false};
  TestServerOptions options;
  options.tenants = Tenants();
  options.on_step = [&hold](const Batch&) {
    while (hold) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  TestServer server(options);
  Clients clients(&server);
  const std::string digest = clients.Upload("acme", "a", 1);
  ASSERT_TRUE(clients.Share("acme", "a", {"globex"}).ok());
  const std::vector<int32_t> alone = [&] {
    server.UseKey("globex");
    return server.Tokens("acme/a", 40);
  }();
  for (const bool unshare : {true, false}) {
    grpc::ClientContext context;
    server.UseKey("globex");
    server.AddKey(&context);
    v1::GenerateStreamRequest request;
    v1::GenerateRequest* generate = request.mutable_request();
    *generate = RequestFor("acme/a", 40);
    generate->mutable_token_ids()->clear_ids();
    for (int i = 0; i < 20; ++i) generate->mutable_token_ids()->add_ids(3 + i);
    const auto reader = server.generation().GenerateStream(&context, request);
    std::vector<int32_t> tokens;
    v1::GenerateStreamResponse message;
    while (reader->Read(&message)) {
      if (tokens.empty()) {
        hold = true;
        const grpc::Status ended = unshare ? clients.Share("acme", "a", {})
                                           : clients.Delete("acme", "a");
        EXPECT_TRUE(ended.ok()) << ended.error_message();
        EXPECT_EQ(clients.Get("globex", "acme/a", StatusCode::NOT_FOUND)
                      .versions_size(),
                  0);
        hold = false;
      }
      const auto& ids = message.delta().token_ids();
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(tokens, alone);
    EXPECT_EQ(clients.Ask("globex", "acme/a").status.error_code(),
              StatusCode::NOT_FOUND);
    if (unshare) {
      ASSERT_TRUE(clients.Share("acme", "a", {"globex"}).ok());
    }
  }
  EXPECT_FALSE(digest.empty());
}

class SharingRestartTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "sharing-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(SharingRestartTest, ItIsKeptAndMeansNothingWithoutTenants) {
  std::string digest;
  {
    TestServer server({.tenants = Tenants(), .adapter_dir = folder_});
    Clients clients(&server);
    digest = clients.Upload("acme", "a", 1);
    ASSERT_TRUE(clients.Share("acme", "a", {"globex"}).ok());
  }
  {
    TestServer server({.tenants = Tenants(), .adapter_dir = folder_});
    Clients clients(&server);
    EXPECT_EQ(clients.Ask("globex", "acme/a").digest, digest);
    EXPECT_FALSE(clients.Ask("initech", "acme/a").status.ok());
    ASSERT_TRUE(clients.Share("acme", "a", {}, /*all=*/true).ok());
  }
  TestServer server({.adapter_dir = folder_});
  Clients clients(&server);
  const Answer answer = clients.Ask("", "acme/a");
  EXPECT_EQ(answer.status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonIn(answer.status), "ADAPTER_NAME_INVALID");
  clients.Get("", "acme/a", StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(clients.ListShared("").total_size(), 0u);
  const grpc::Status share = clients.Share("", "a", {"globex"});
  EXPECT_EQ(share.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonIn(share), "TENANTS_OFF");
}

}  // namespace
}  // namespace descant
