// AdminService's part in the life of adapters, through real gRPC.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

std::string Outcome(const grpc::Status& status) {
  return status.ok() ? "OK"
                     : absl::StrCat(status.error_code(), " ", ReasonIn(status));
}

class AdminTest : public ::testing::Test {
 protected:
  grpc::Status Load(const std::string& id, v1::AdapterLevel level,
                    v1::Adapter* adapter = nullptr) {
    grpc::ClientContext context;
    v1::LoadAdapterRequest request;
    request.mutable_adapter()->set_adapter_id(id);
    request.set_level(level);
    v1::LoadAdapterResponse response;
    const grpc::Status status =
        server_.admin().LoadAdapter(&context, request, &response);
    if (adapter != nullptr) *adapter = response.adapter();
    return status;
  }
  grpc::Status Unload(const std::string& id,
                      v1::UnloadAdapterResponse* response) {
    grpc::ClientContext context;
    v1::UnloadAdapterRequest request;
    request.mutable_adapter()->set_adapter_id(id);
    return server_.admin().UnloadAdapter(&context, request, response);
  }
  grpc::Status Pin(const std::string& id, bool pinned,
                   v1::Adapter* adapter = nullptr) {
    grpc::ClientContext context;
    v1::PinAdapterRequest request;
    request.mutable_adapter()->set_adapter_id(id);
    request.set_pinned(pinned);
    v1::PinAdapterResponse response;
    const grpc::Status status =
        server_.admin().PinAdapter(&context, request, &response);
    if (adapter != nullptr) *adapter = response.adapter();
    return status;
  }
  v1::Adapter Get(const std::string& id) {
    grpc::ClientContext context;
    v1::GetAdapterRequest request;
    request.set_adapter_id(id);
    v1::GetAdapterResponse response;
    EXPECT_TRUE(
        server_.adapters().GetAdapter(&context, request, &response).ok());
    return response.adapter();
  }
  grpc::Status SetMergeMode(TestServer& server, const std::string& id,
                            v1::MergeMode mode,
                            v1::MergeStatus* merge = nullptr) {
    grpc::ClientContext context;
    v1::SetMergeModeRequest request;
    request.mutable_adapter()->set_adapter_id(id);
    request.set_mode(mode);
    v1::SetMergeModeResponse response;
    const grpc::Status status =
        server.admin().SetMergeMode(&context, request, &response);
    if (merge != nullptr) *merge = response.status();
    return status;
  }
  v1::ListMergesResponse ListMerges(TestServer& server) {
    grpc::ClientContext context;
    v1::ListMergesResponse response;
    EXPECT_TRUE(server.admin().ListMerges(&context, {}, &response).ok());
    return response;
  }
  // "name: problem" of the damaged; the sums.
  grpc::Status Verify(std::vector<std::string>* damaged,
                      v1::VerifySummary* summary) {
    grpc::ClientContext context;
    const auto reader = server_.admin().VerifyStore(&context, {});
    v1::VerifyStoreResponse response;
    while (reader->Read(&response)) {
      if (response.has_summary()) *summary = response.summary();
      if (!response.adapter().problem().empty()) {
        damaged->push_back(response.adapter().name());
      }
    }
    return reader->Finish();
  }

  TestServer server_;
};

TEST_F(AdminTest, LoadsToALevel) {
  ASSERT_TRUE(server_.Upload("a", 1).ok());
  EXPECT_EQ(Get("a").level(), v1::ADAPTER_LEVEL_DISK);
  v1::Adapter adapter;
  ASSERT_EQ(Outcome(Load("a", v1::ADAPTER_LEVEL_HOST, &adapter)), "OK");
  EXPECT_EQ(adapter.level(), v1::ADAPTER_LEVEL_HOST);
  ASSERT_EQ(Outcome(Load("a", v1::ADAPTER_LEVEL_UNSPECIFIED, &adapter)), "OK");
  EXPECT_EQ(adapter.level(), v1::ADAPTER_LEVEL_DEVICE);
  EXPECT_EQ(Get("a").level(), v1::ADAPTER_LEVEL_DEVICE);
  EXPECT_EQ(Outcome(Load("a", v1::ADAPTER_LEVEL_DISK)), "3 FIELD_INVALID");
  EXPECT_EQ(Outcome(Load("nobody", v1::ADAPTER_LEVEL_DEVICE)),
            "5 ADAPTER_NOT_FOUND");
  EXPECT_EQ(Outcome(Load("../a", v1::ADAPTER_LEVEL_DEVICE)),
            "3 ADAPTER_NAME_INVALID");
}

TEST_F(AdminTest, UnloadFrees) {
  ASSERT_TRUE(server_.Upload("a", 1).ok());
  const std::vector<int32_t> tokens = server_.Tokens("a", 8);
  EXPECT_EQ(Get("a").level(), v1::ADAPTER_LEVEL_DEVICE);
  v1::UnloadAdapterResponse response;
  ASSERT_EQ(Outcome(Unload("a", &response)), "OK");
  EXPECT_GT(response.freed_device_bytes(), 0u);
  EXPECT_EQ(response.adapter().level(), v1::ADAPTER_LEVEL_DISK);
  EXPECT_EQ(server_.Tokens("a", 8), tokens);
  ASSERT_EQ(Outcome(Unload("a", &response)), "OK");
  ASSERT_EQ(Outcome(Unload("a", &response)), "OK");
  EXPECT_EQ(response.freed_device_bytes(), 0u) << "there was nothing to free";
  EXPECT_EQ(Outcome(Unload("nobody", &response)), "5 ADAPTER_NOT_FOUND");
}

TEST_F(AdminTest, PinsStayAndAreBounded) {
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(server_.Upload(absl::StrCat("a", i), i).ok());
  }
  v1::Adapter adapter;
  ASSERT_EQ(Outcome(Pin("a0", true, &adapter)), "OK");
  EXPECT_TRUE(adapter.pinned());
  EXPECT_EQ(adapter.level(), v1::ADAPTER_LEVEL_DEVICE);
  // The server has four slots: these would have evicted it.
  for (int i = 1; i < 8; ++i) {
    ASSERT_FALSE(server_.Tokens(absl::StrCat("a", i), 2).empty());
  }
  EXPECT_EQ(Get("a0").level(), v1::ADAPTER_LEVEL_DEVICE);
  ASSERT_EQ(Outcome(Pin("a1", true)), "OK");
  ASSERT_EQ(Outcome(Pin("a2", true)), "OK");
  EXPECT_EQ(Outcome(Pin("a3", true)), "8 ADAPTER_PINS_FULL");
  EXPECT_FALSE(server_.Tokens("a3", 2).empty()) << "one slot is left";
  ASSERT_EQ(Outcome(Pin("a0", false, &adapter)), "OK");
  EXPECT_FALSE(adapter.pinned());
  EXPECT_EQ(Outcome(Pin("a3", true)), "OK");
  EXPECT_EQ(Outcome(Pin("nobody", true)), "5 ADAPTER_NOT_FOUND");
}

TEST_F(AdminTest, APinFollowsItsName) {
  ASSERT_TRUE(server_.Upload("a", 1).ok());
  ASSERT_EQ(Outcome(Pin("a", true)), "OK");
  const std::string first = Get("a").digest();
  UploadPlan plan = server_.PlanUpload("a", 2);
  plan.header()->set_replace(true);
  ASSERT_TRUE(server_.Send(plan).ok());
  server_.app().KeepHouse();
  // The engine takes it up at its next step.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!Get("a").pinned() && std::chrono::steady_clock::now() < end) {
  }
  EXPECT_TRUE(Get("a").pinned());
  EXPECT_NE(Get("a").digest(), first);
  EXPECT_FALSE(Get(absl::StrCat("a@", first)).pinned());
  v1::UnloadAdapterResponse response;
  ASSERT_EQ(Outcome(Unload("a", &response)), "OK");
  EXPECT_FALSE(Get("a").pinned()) << "an unload ends the pin";
}

TEST_F(AdminTest, NothingIsMergedWhereHotMergeIsOff) {
  ASSERT_TRUE(server_.Upload("a", 1).ok());
  EXPECT_EQ(Outcome(SetMergeMode(server_, "a", v1::MERGE_MODE_PINNED)),
            "9 HOT_MERGE_OFF");
  EXPECT_EQ(Outcome(SetMergeMode(server_, "a", v1::MERGE_MODE_FORBIDDEN)),
            "9 HOT_MERGE_OFF");
  v1::MergeStatus merge;
  ASSERT_EQ(Outcome(SetMergeMode(server_, "a", v1::MERGE_MODE_AUTO, &merge)),
            "OK");
  EXPECT_EQ(merge.name(), "a");
  EXPECT_EQ(merge.digest(), Get("a").digest());
  EXPECT_EQ(merge.mode(), v1::MERGE_MODE_AUTO);
  EXPECT_EQ(merge.state(), v1::MERGE_STATE_UNMERGED);
  EXPECT_EQ(merge.reason(), "the server runs with --hot-merge=off");
  const v1::ListMergesResponse merges = ListMerges(server_);
  EXPECT_FALSE(merges.enabled());
  EXPECT_EQ(merges.adapters_size(), 0);
  EXPECT_EQ(merges.history_size(), 0);
}

TEST_F(AdminTest, MergeModesAreOfAdaptersThatAreThere) {
  ASSERT_TRUE(server_.Upload("a", 1).ok());
  EXPECT_EQ(Outcome(SetMergeMode(server_, "nobody", v1::MERGE_MODE_PINNED)),
            "5 ADAPTER_NOT_FOUND");
  EXPECT_EQ(Outcome(SetMergeMode(server_, "../a", v1::MERGE_MODE_PINNED)),
            "3 ADAPTER_NAME_INVALID");
  EXPECT_EQ(Outcome(SetMergeMode(server_, "a", v1::MERGE_MODE_UNSPECIFIED)),
            "3 FIELD_INVALID");
  EXPECT_EQ(Outcome(SetMergeMode(server_, "a", static_cast<v1::MergeMode>(77))),
            "3 FIELD_INVALID");
}

// The fake runner merges nothing.
TEST_F(AdminTest, WhyAServerCannotMerge) {
  TestServerOptions options;
  options.configure = [](ServerConfig* config) { config->hot_merge = true; };
  TestServer server(options);
  ASSERT_TRUE(server.Upload("a", 1).ok());
  EXPECT_EQ(Outcome(SetMergeMode(server, "a", v1::MERGE_MODE_PINNED)),
            "9 MERGE_UNSUPPORTED");
  const v1::ListMergesResponse merges = ListMerges(server);
  EXPECT_TRUE(merges.enabled());
  EXPECT_NE(merges.unavailable_reason(), "");
  v1::MergeStatus merge;
  ASSERT_EQ(Outcome(SetMergeMode(server, "a", v1::MERGE_MODE_AUTO, &merge)),
            "OK");
  EXPECT_EQ(merge.reason(), merges.unavailable_reason());
}

TEST_F(AdminTest, VerifyFindsAndQuarantinesDamage) {
  for (const int seed : {1, 2, 3}) {
    ASSERT_TRUE(server_.Upload(absl::StrCat("a", seed), seed).ok());
  }
  std::vector<std::string> damaged;
  v1::VerifySummary summary;
  ASSERT_EQ(Outcome(Verify(&damaged, &summary)), "OK");
  EXPECT_TRUE(damaged.empty());
  EXPECT_EQ(summary.verified(), 3u);
  EXPECT_GT(summary.bytes(), 0u);

  const std::string hex = Get("a2").digest().substr(7);
  for (const auto& file : std::filesystem::recursive_directory_iterator(
           server_.adapter_dir() + "/blobs")) {
    if (file.path().filename() != hex) continue;
    std::fstream blob(file.path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    blob.seekp(-1, std::ios::end);
    blob.put('\x55');
  }
  ASSERT_EQ(Outcome(Verify(&damaged, &summary)), "OK");
  EXPECT_EQ(damaged, std::vector<std::string>{"a2"});
  EXPECT_EQ(summary.damaged(), 1u);
  EXPECT_EQ(Get("a2").state(), v1::ADAPTER_STATE_QUARANTINED);
  EXPECT_EQ(Get("a1").state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(Outcome(Load("a2", v1::ADAPTER_LEVEL_DEVICE)),
            "15 ADAPTER_DATA_LOSS");
}

}  // namespace
}  // namespace descant
