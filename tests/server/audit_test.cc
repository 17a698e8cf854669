// What the real server writes into its audit log.
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/audit_log.h"
#include "tests/server/certificates.h"
#include "tests/server/test_server.h"
#include "tests/testing/file_size_limit.h"

namespace descant {
namespace {

using Json = nlohmann::json;
using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kSecret[] = "acme-key-of-test";

class AuditTest : public ::testing::Test {
 protected:
  AuditTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "audit-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    path_ = folder_ + "/audit.jsonl";
  }
  ~AuditTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void WriteTenants(const std::string& more) {
    WriteFileAtomically(
        folder_ + "/tenants.yaml",
        absl::StrCat("tenants:\n- {id: acme, keys: [{id: k1, sha256: ",
                     HexOf(Sha256Of(kSecret)), "}]}\n", more));
  }

  void Start(bool fail_closed = false) {
    WriteTenants("");
    TestServerOptions options;
    options.tenants_file = folder_ + "/tenants.yaml";
    auto tenants = TenantDirectory::Load(options.tenants_file);
    ASSERT_TRUE(tenants.ok()) << tenants.status();
    options.tenants = *tenants;
    options.configure = [&](ServerConfig* config) {
      config->audit_log = path_;
      config->audit_fail_closed = fail_closed;
    };
    server_ = std::make_unique<TestServer>(options);
    server_->UseKey(kSecret);
  }

  grpc::Status Delete(const std::string& id, const std::string& key = kSecret) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    v1::DeleteAdapterRequest request;
    request.set_adapter_id(id);
    v1::DeleteAdapterResponse response;
    return server_->adapters().DeleteAdapter(&context, request, &response);
  }

  // All lines, when the server has ended; "time" and "peer", which differ, are
  // checked and taken out.
  std::vector<Json> Lines() {
    server_.reset();
    std::vector<Json> lines;
    std::ifstream file(path_);
    uint64_t sequence = 0;
    for (std::string line; std::getline(file, line);) {
      EXPECT_THAT(line, Not(HasSubstr(kSecret)));
      EXPECT_THAT(line, Not(HasSubstr(HexOf(Sha256Of(kSecret)))));
      Json json = Json::parse(line);
      EXPECT_EQ(json["seq"], ++sequence);
      EXPECT_EQ(json["time"].get<std::string>().size(), 24u);
      if (json.contains("rpc")) {
        EXPECT_THAT(json["peer"].get<std::string>(),
                    StartsWith("ipv4:127.0.0.1:"));
      }
      for (const char* field : {"seq", "time", "peer"}) json.erase(field);
      lines.push_back(std::move(json));
    }
    return lines;
  }

  std::string folder_;
  std::string path_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(AuditTest, WhatChangesAdaptersIsWrittenDown) {
  Start();
  v1::UploadAdapterResponse first;
  v1::UploadAdapterResponse second;
  UploadPlan plan = server_->PlanUpload("support", 1);
  ASSERT_TRUE(server_->Send(plan, &first).ok());
  const uint64_t size = plan.header()->size_bytes();
  plan = server_->PlanUpload("support", 2);
  plan.header()->set_replace(true);
  ASSERT_TRUE(server_->Send(plan, &second).ok());
  plan.header()->set_validate_only(true);
  ASSERT_TRUE(server_->Send(plan).ok());
  plan = server_->PlanUpload("bad", 3);
  plan.header()->set_sha256(std::string(64, '0'));
  ASSERT_FALSE(server_->Send(plan).ok());
  {
    grpc::ClientContext context;
    server_->AddKey(&context);
    v1::RollbackAdapterRequest request;
    request.set_adapter_id("support");
    v1::RollbackAdapterResponse response;
    ASSERT_TRUE(
        server_->adapters().RollbackAdapter(&context, request, &response).ok());
  }
  ASSERT_TRUE(Delete("support").ok());
  ASSERT_EQ(Delete("support").error_code(), StatusCode::NOT_FOUND);
  ASSERT_EQ(server_->Tokens("", 2).size(), 2u);

  const std::vector<Json> lines = Lines();
  ASSERT_EQ(lines.size(), 8u);
  const Json caller = {
      {"tenant", "acme"}, {"identity", "api_key"}, {"key_id", "k1"}};
  const auto expect = [&](size_t i, Json more) {
    more.update(caller);
    EXPECT_EQ(lines[i], more);
  };
  EXPECT_EQ(lines[0], (Json{{"event", "start"}, {"code", "OK"}}));
  expect(1, {{"event", "upload"},
             {"code", "OK"},
             {"rpc", "UploadAdapter"},
             {"name", "support"},
             {"digest", first.adapter().digest()},
             {"size", size}});
  expect(2, {{"event", "replace"},
             {"code", "OK"},
             {"rpc", "UploadAdapter"},
             {"name", "support"},
             {"digest", second.adapter().digest()},
             {"size", size}});
  EXPECT_EQ(lines[3]["event"], "upload");
  EXPECT_EQ(lines[3]["code"], "INVALID_ARGUMENT");
  EXPECT_EQ(lines[3]["name"], "bad");
  EXPECT_NE(lines[3]["reason"], "");
  expect(4, {{"event", "rollback"},
             {"code", "OK"},
             {"rpc", "RollbackAdapter"},
             {"name", "support"},
             {"digest", first.adapter().digest()}});
  expect(5, {{"event", "delete"},
             {"code", "OK"},
             {"rpc", "DeleteAdapter"},
             {"name", "support"},
             {"digest", first.adapter().digest()}});
  EXPECT_EQ(lines[6]["code"], "NOT_FOUND");
  EXPECT_EQ(lines[7], (Json{{"event", "drain"}, {"code", "OK"}}));
}

TEST_F(AuditTest, WhoIsTurnedAwayIsWrittenDownWithoutWhatTheyBrought) {
  Start();
  EXPECT_EQ(Delete("a", "SECRET-wrong").error_code(),
            StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Delete("a", "").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Delete("a", "SECRET.SECRET.SECRET").error_code(),
            StatusCode::UNAUTHENTICATED);
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kSecret));
  v1::GetStatsResponse stats;
  EXPECT_EQ(server_->admin().GetStats(&context, {}, &stats).error_code(),
            StatusCode::PERMISSION_DENIED);
  const std::vector<Json> lines = Lines();
  ASSERT_EQ(lines.size(), 6u);
  for (size_t i = 1; i < 5; ++i) {
    EXPECT_EQ(lines[i]["event"], "auth_failure") << lines[i];
    EXPECT_THAT(lines[i].dump(), Not(HasSubstr("SECRET")));
  }
  EXPECT_EQ(lines[1], (Json{{"event", "auth_failure"},
                            {"code", "UNAUTHENTICATED"},
                            {"reason", "no tenant has this key"},
                            {"rpc", "DeleteAdapter"}}));
  EXPECT_EQ(lines[2]["reason"], "an empty key");
  EXPECT_EQ(lines[4]["code"], "PERMISSION_DENIED");
  EXPECT_EQ(lines[4]["tenant"], "acme");
  EXPECT_EQ(lines[4]["rpc"], "GetStats");
}

TEST_F(AuditTest, FailuresAtFullRateDoNotFillTheDisk) {
  Start();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_FALSE(Delete("a", "wrong").ok());
  }
  const std::vector<Json> lines = Lines();
  EXPECT_GT(lines.size(), 100u);
  EXPECT_LT(lines.size(), 800u);
}

TEST_F(AuditTest, OperatorsAndReloadsAreWrittenDown) {
  Start();
  ASSERT_TRUE(server_->Upload("support", 1).ok());
  {
    grpc::ClientContext context;
    v1::GetStatsResponse response;
    ASSERT_TRUE(server_->admin().GetStats(&context, {}, &response).ok());
  }
  for (const char* id : {"support", "nobody"}) {
    grpc::ClientContext context;
    v1::PinAdapterRequest request;
    request.mutable_adapter()->set_tenant("acme");
    request.mutable_adapter()->set_adapter_id(id);
    request.set_pinned(true);
    v1::PinAdapterResponse response;
    server_->admin().PinAdapter(&context, request, &response);
  }
  {
    grpc::ClientContext context;
    v1::VerifyStoreResponse response;
    const auto reader = server_->admin().VerifyStore(&context, {});
    while (reader->Read(&response)) {
    }
    ASSERT_TRUE(reader->Finish().ok());
  }
  WriteTenants(
      absl::StrCat("- {id: globex, spiffe-ids: ['spiffe://x/y'], "
                   "keys: [{id: k, sha256: ",
                   std::string(64, 'a'), "}]}\n"));
  server_->app().Reload();
  WriteTenants("nonsense");
  server_->app().Reload();
  WriteTenants("");
  server_->app().Reload();

  const std::vector<Json> lines = Lines();
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines[2],
            (Json{{"event", "admin"}, {"code", "OK"}, {"rpc", "GetStats"}}));
  EXPECT_EQ(lines[3], (Json{{"event", "admin"},
                            {"code", "OK"},
                            {"rpc", "PinAdapter"},
                            {"name", "acme/support"}}));
  EXPECT_EQ(lines[4]["code"], "NOT_FOUND");
  EXPECT_EQ(lines[5]["rpc"], "VerifyStore");
  EXPECT_EQ(lines[6], (Json{{"event", "tenants_reload"},
                            {"code", "OK"},
                            {"added", {"globex spiffe://x/y", "globex/k"}}}));
  EXPECT_EQ(lines[7]["code"], "INVALID_ARGUMENT");
  EXPECT_EQ(lines[8]["removed"], (Json{"globex spiffe://x/y", "globex/k"}));
}

TEST_F(AuditTest, DamageIsWrittenDown) {
  Start();
  v1::UploadAdapterResponse stored;
  ASSERT_TRUE(server_->Send(server_->PlanUpload("support", 1), &stored).ok());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           server_->adapter_dir() + "/blobs")) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x7f');
    file.put('\x3f');
  }
  grpc::ClientContext context;
  v1::VerifyStoreResponse response;
  const auto reader = server_->admin().VerifyStore(&context, {});
  while (reader->Read(&response)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  size_t found = 0;
  for (const Json& line : Lines()) {
    if (line["event"] != "quarantine") continue;
    ++found;
    EXPECT_EQ(line, (Json{{"event", "quarantine"},
                          {"code", "DATA_LOSS"},
                          {"name", "acme/support"},
                          {"digest", stored.adapter().digest()}}));
  }
  EXPECT_EQ(found, 1u);
}

TEST_F(AuditTest, FailClosedRefusesWhatChangesAdaptersAndNothingElse) {
  Start(/*fail_closed=*/true);
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(server_->Upload(name, 1).ok());
  }
  {
    grpc::ClientContext context;
    v1::PinAdapterRequest request;
    request.mutable_adapter()->set_tenant("acme");
    request.mutable_adapter()->set_adapter_id("a");
    request.set_pinned(true);
    v1::PinAdapterResponse response;
    const grpc::Status pinned =
        server_->admin().PinAdapter(&context, request, &response);
    ASSERT_TRUE(pinned.ok()) << pinned.error_message();
  }
  // What an answer of OK told of is in the file already.
  const auto in_file = [this](const std::string& text) {
    std::ifstream file(path_);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    return all.find(text) != std::string::npos;
  };
  EXPECT_TRUE(in_file("\"name\":\"acme/a\""));
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_TRUE(in_file("\"event\":\"delete\""));

  // The largest file of all from now on, and full.
  const uint64_t full_size = 16 << 20;
  std::ofstream(path_, std::ios::app)
      << std::string(full_size - std::filesystem::file_size(path_) - 1, ' ')
      << "\n";
  {
    const FileSizeLimit full(full_size);
    const grpc::Status unwritten = Delete("b");
    EXPECT_EQ(unwritten.error_code(), StatusCode::UNAVAILABLE);
    EXPECT_EQ(ReasonIn(unwritten), "AUDIT_UNAVAILABLE");
    EXPECT_TRUE(HasRetryInfo(unwritten));
    // From now on nothing is begun.
    EXPECT_EQ(ReasonIn(Delete("c")), "AUDIT_UNAVAILABLE");
    EXPECT_EQ(ReasonIn(server_->Upload("d", 4)), "AUDIT_UNAVAILABLE");
    grpc::ClientContext context;
    v1::GetStatsResponse response;
    EXPECT_EQ(ReasonIn(server_->admin().GetStats(&context, {}, &response)),
              "AUDIT_UNAVAILABLE");
    EXPECT_EQ(server_->Tokens("c", 2).size(), 2u);
    EXPECT_THAT(RenderMetrics(*server_->app().edge()->metrics),
                Not(HasSubstr("\ndescant_audit_write_failures_total 0\n")));
  }
  grpc::Status status = Delete("c");
  for (int i = 0; i < 600 && !status.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    server_->app().KeepHouse();
    status = Delete("c");
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(in_file("\"name\":\"b\"")) << "told of once it could be";
}

}  // namespace
}  // namespace descant
