// What operators see of tenants: GetStats, the usage log, the page of metrics;
// over real gRPC.
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;
using Json = nlohmann::ordered_json;

std::string EntryOf(const std::string& id, const std::string& more = "") {
  return absl::StrCat("- {id: ", id,
                      ", keys: [{id: k, sha256: ", HexOf(Sha256Of(id)), "}]",
                      more, "}\n");
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class UsageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "usage-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override {
    hold_ = false;
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string LogPath() const { return folder_ + "/usage.jsonl"; }

  // Empty: without tenants.
  void Start(const std::string& entries) {
    TestServerOptions options;
    options.usage_log = LogPath();
    if (!entries.empty()) {
      options.tenants_file = folder_ + "/tenants.yaml";
      std::ofstream(options.tenants_file) << "tenants:\n" << entries;
      ASSERT_EQ(chmod(options.tenants_file.c_str(), 0600), 0);
      auto tenants = TenantDirectory::Load(options.tenants_file);
      ASSERT_TRUE(tenants.ok()) << tenants.status();
      options.tenants = *tenants;
    }
    options.on_step = [this](const Batch&) {
      steps_.fetch_add(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(step_ms_));
      while (hold_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    server_ = std::make_unique<TestServer>(options);
  }

  grpc::Status Generate(const std::string& key, int prompt, int max_tokens,
                        const std::string& adapter = "",
                        grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    if (context == nullptr) context = &own;
    if (!key.empty()) context->AddMetadata("authorization", "Bearer " + key);
    v1::GenerateRequest request;
    for (int i = 0; i < prompt; ++i) request.mutable_token_ids()->add_ids(5);
    if (!adapter.empty()) request.set_adapter_id(adapter);
    request.set_client_request_id("mine");
    request.mutable_stopping()->set_max_tokens(max_tokens);
    request.mutable_stopping()->set_ignore_eos(true);
    v1::GenerateResponse response;
    return server_->generation().Generate(context, request, &response);
  }

  v1::GetStatsResponse Stats() {
    grpc::ClientContext context;
    v1::GetStatsResponse stats;
    EXPECT_TRUE(server_->admin().GetStats(&context, {}, &stats).ok());
    return stats;
  }
  // Asks until `done`.
  v1::GetStatsResponse StatsWhen(
      const std::function<bool(const v1::GetStatsResponse&)>& done) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (true) {
      v1::GetStatsResponse stats = Stats();
      if (done(stats)) return stats;
      if (std::chrono::steady_clock::now() > end) {
        ADD_FAILURE() << stats.DebugString();
        return stats;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  std::vector<Json> LogLines() {
    EXPECT_TRUE(server_->app().edge()->usage_log->Flush().ok());
    std::vector<Json> lines;
    std::istringstream text(ReadAll(LogPath()));
    for (std::string line; std::getline(text, line);) {
      lines.push_back(Json::parse(line));
    }
    return lines;
  }

  std::string Page() { return RenderMetrics(*server_->app().edge()->metrics); }

  std::string folder_;
  std::atomic<bool> hold_{false};  // no step ends
  std::atomic<int> steps_{0};
  std::atomic<int> step_ms_{0};  // how long each takes
  std::unique_ptr<TestServer> server_;
};

TEST_F(UsageTest, TenantsComeInTheFilesOrderIdleOnesToo) {
  Start(EntryOf("zeta", ", weight: 7") + EntryOf("acme") + EntryOf("idle"));
  server_->UseKey("acme");
  ASSERT_TRUE(server_->Upload("tuned", 1).ok());
  ASSERT_TRUE(Generate("acme", 40, 3, "tuned").ok());
  ASSERT_TRUE(Generate("acme", 40, 3, "tuned").ok());
  ASSERT_TRUE(Generate("zeta", 5, 4).ok());
  const v1::GetStatsResponse stats = StatsWhen([](const auto& s) {
    return s.running_requests() == 0 && s.generated_tokens() == 10;
  });
  ASSERT_EQ(stats.tenants_size(), 3);
  const v1::TenantStats& zeta = stats.tenants(0);
  EXPECT_EQ(zeta.tenant(), "zeta");
  EXPECT_EQ(zeta.weight(), 7);
  EXPECT_EQ(zeta.requests(), 1u);
  EXPECT_EQ(zeta.prompt_tokens(), 5u);
  EXPECT_EQ(zeta.generated_tokens(), 4u);
  EXPECT_EQ(zeta.adapter_slots_used(), 0);
  const v1::TenantStats& acme = stats.tenants(1);
  EXPECT_EQ(acme.tenant(), "acme");
  EXPECT_EQ(acme.requests(), 2u);
  EXPECT_EQ(acme.prompt_tokens(), 80u);
  // The first block of the second prompt was known from the first.
  EXPECT_EQ(acme.cached_tokens(), 32u);
  EXPECT_EQ(acme.generated_tokens(), 6u);
  EXPECT_EQ(acme.adapter_slots_used(), 1);
  EXPECT_EQ(acme.kv_blocks_used(), 0);
  EXPECT_EQ(acme.kv_blocks_cached(), 1);
  EXPECT_EQ(acme.stored_adapters(), 1u);
  EXPECT_GT(acme.stored_bytes(), 0u);
  const v1::TenantStats& idle = stats.tenants(2);
  EXPECT_EQ(idle.tenant(), "idle");
  EXPECT_EQ(idle.requests() + idle.prompt_tokens() + idle.stored_bytes(), 0u);
  EXPECT_EQ(stats.cached_tokens(), 32u);
  EXPECT_EQ(stats.kv_blocks_cached(), 1);
  EXPECT_EQ(stats.active_adapters_size(), 0);
}

TEST_F(UsageTest, WhatRunsAndWaitsIsTheTenantsAndTheAdapters) {
  Start(EntryOf("acme") + EntryOf("zeta"));
  server_->UseKey("acme");
  ASSERT_TRUE(server_->Upload("tuned", 1).ok());
  ASSERT_TRUE(Generate("acme", 40, 1, "tuned").ok());
  // Of the runner's 16 places zeta takes all but the two that are kept, as
  // acme was here, for those who run less than their share; three of acme's
  // come for these.
  step_ms_ = 20;
  std::vector<std::thread> clients;
  const auto call = [&](const char* key, int prompt, const char* adapter) {
    clients.emplace_back([=, this] {
      const grpc::Status status = Generate(key, prompt, 200, adapter);
      EXPECT_TRUE(status.ok()) << status.error_message();
    });
  };
  for (int i = 0; i < 17; ++i) call("zeta", 3, "");
  StatsWhen([](const auto& s) {
    return s.running_requests() == 14 && s.waiting_requests() == 3;
  });
  for (int i = 0; i < 3; ++i) call("acme", 40, "tuned");
  const v1::GetStatsResponse stats = StatsWhen([](const auto& s) {
    return s.running_requests() == 16 && s.waiting_requests() == 4 &&
           s.active_adapters_size() == 1 &&
           s.active_adapters(0).level() == v1::ADAPTER_LEVEL_DEVICE;
  });
  const v1::TenantStats& acme = stats.tenants(0);
  const v1::TenantStats& zeta = stats.tenants(1);
  EXPECT_EQ(acme.running_requests(), 2);
  EXPECT_EQ(acme.waiting_requests(), 1);
  EXPECT_EQ(zeta.running_requests(), 14);
  EXPECT_EQ(zeta.waiting_requests(), 3);
  EXPECT_EQ(acme.kv_blocks_used() + zeta.kv_blocks_used(),
            stats.kv_blocks_used());
  EXPECT_GT(zeta.kv_blocks_used(), 0);
  const v1::AdapterActivity& adapter = stats.active_adapters(0);
  EXPECT_EQ(adapter.tenant(), "acme");
  EXPECT_EQ(adapter.name(), "tuned");
  EXPECT_TRUE(absl::StartsWith(adapter.digest(), "sha256:"));
  EXPECT_EQ(adapter.running_requests(), acme.running_requests());
  EXPECT_EQ(adapter.waiting_requests(), acme.waiting_requests());
  step_ms_ = 0;
  for (std::thread& client : clients) client.join();
}

TEST_F(UsageTest, AnEngineThatIsStuckIsToldOfAllTheSame) {
  Start("");
  hold_ = true;
  std::thread client([this] { EXPECT_TRUE(Generate("", 3, 2).ok()); });
  while (steps_ == 0 ||
         server_->app().edge()->usage->CountsOf("").requests == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const auto begin = std::chrono::steady_clock::now();
  const v1::GetStatsResponse stats = Stats();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  ASSERT_EQ(stats.tenants_size(), 1);
  EXPECT_EQ(stats.tenants(0).tenant(), "");
  EXPECT_EQ(stats.tenants(0).requests(), 1u);
  hold_ = false;
  client.join();
}

TEST_F(UsageTest, EveryGenerationThatTheEngineTookIsALine) {
  Start(EntryOf("acme") + EntryOf("zeta", ", limits: {sequences: 1}"));
  server_->UseKey("acme");
  ASSERT_TRUE(server_->Upload("tuned", 1).ok());
  ASSERT_TRUE(Generate("acme", 40, 3, "tuned").ok());
  EXPECT_EQ(Generate("acme", 3, 3, "none").error_code(), StatusCode::NOT_FOUND);
  grpc::ClientContext soon;
  soon.set_deadline(std::chrono::system_clock::now() +
                    std::chrono::milliseconds(300));
  hold_ = true;
  const int before = steps_;
  std::thread late([&] { Generate("zeta", 3, 400, "", &soon); });
  while (steps_ == before) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(Generate("zeta", 3, 3).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  late.join();
  step_ms_ = 10;  // the server sees that the call ended before 400 of them
  hold_ = false;
  StatsWhen([](const auto& s) { return s.running_requests() == 0; });
  const std::vector<Json> lines = LogLines();
  ASSERT_EQ(lines.size(), 2u);
  const Json& good = lines[0];
  EXPECT_EQ(good["tenant"], "acme");
  EXPECT_EQ(good["adapter"], "acme/tuned");
  EXPECT_TRUE(absl::StartsWith(good["digest"].get<std::string>(), "sha256:"));
  EXPECT_EQ(good["client_request_id"], "mine");
  EXPECT_EQ(good["prompt_tokens"], 40);
  EXPECT_EQ(good["cached_tokens"], 0);
  EXPECT_EQ(good["generated_tokens"], 3);
  EXPECT_EQ(good["finish"], "length");
  EXPECT_EQ(good["code"], "OK");
  EXPECT_GT(good["prefill_s"].get<double>(), 0);
  EXPECT_GE(good["total_s"].get<double>(),
            good["prefill_s"].get<double>() + good["decode_s"].get<double>());
  EXPECT_TRUE(absl::EndsWith(good["time"].get<std::string>(), "Z"));
  // Cancelled by the client's deadline, or by the server's copy of it.
  const Json& ended = lines[1];
  EXPECT_EQ(ended["tenant"], "zeta");
  EXPECT_EQ(ended["adapter"], "");
  EXPECT_NE(ended["code"], "OK");
  EXPECT_TRUE(ended["finish"] == "cancelled" || ended["finish"] == "deadline")
      << ended;
  EXPECT_NE(good["request_id"], ended["request_id"]);
  EXPECT_EQ(Stats().tenants(1).refused_requests(), 1u);
}

TEST_F(UsageTest, TheLogIsWholeAfterADrainAndOpenedAnewOnReload) {
  Start("");
  ASSERT_TRUE(Generate("", 3, 2).ok());
  StatsWhen([](const auto& s) { return s.running_requests() == 0; });
  ASSERT_EQ(LogLines().size(), 1u);
  std::filesystem::rename(LogPath(), LogPath() + ".old");
  server_->app().Reload();
  ASSERT_TRUE(Generate("", 3, 2).ok());
  server_->Drain(std::chrono::seconds(5));
  EXPECT_EQ(LogLines().size(), 1u);
  EXPECT_FALSE(ReadAll(LogPath() + ".old").empty());
}

TEST_F(UsageTest, ThePageHasEveryTenantOfTheFileAndNoOther) {
  Start(EntryOf("acme") +
        EntryOf("zeta", ", limits: {requests-per-second: 0.01}"));
  ASSERT_TRUE(Generate("acme", 40, 3).ok());
  ASSERT_TRUE(Generate("acme", 40, 3).ok());
  ASSERT_TRUE(Generate("zeta", 4, 1).ok());
  EXPECT_FALSE(Generate("zeta", 4, 1).ok());
  EXPECT_FALSE(Generate("stranger", 4, 1).ok());
  StatsWhen([](const auto& s) { return s.generated_tokens() == 7; });
  ASSERT_EQ(LogLines().size(), 3u);
  const std::string page = Page();
  for (const char* line :
       {"descant_tenant_requests_total{tenant=\"acme\"} 2",
        "descant_tenant_requests_total{tenant=\"zeta\"} 1",
        "descant_tenant_refused_requests_total{tenant=\"acme\"} 0",
        "descant_tenant_refused_requests_total{tenant=\"zeta\"} 1",
        "descant_tenant_prompt_tokens_total{tenant=\"acme\"} 80",
        "descant_tenant_cached_tokens_total{tenant=\"acme\"} 32",
        "descant_tenant_generated_tokens_total{tenant=\"acme\"} 6",
        "descant_tenant_generated_tokens_total{tenant=\"zeta\"} 1",
        "descant_usage_log_lines_total 3",
        "descant_usage_log_dropped_lines_total 0",
        "descant_usage_log_failures_total 0"}) {
    EXPECT_TRUE(absl::StrContains(page, absl::StrCat(line, "\n"))) << line;
  }
  EXPECT_FALSE(absl::StrContains(page, "stranger"));
}

}  // namespace
}  // namespace descant
