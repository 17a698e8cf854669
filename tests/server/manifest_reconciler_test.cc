// The adapters' manifest, on the real server.
#include "server/manifest_reconciler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

class ManifestReconcilerTest : public ::testing::Test {
 protected:
  ManifestReconcilerTest()
      : folder_(std::filesystem::path(testing::TempDir()) / "manifest-test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~ManifestReconcilerTest() override { std::filesystem::remove_all(folder_); }

  // A PEFT folder below the manifest's own.
  void WriteAdapter(const std::string& name, uint64_t seed) {
    const UploadPlan plan = server_.PlanUpload(name, seed);
    std::filesystem::create_directories(folder_ / name);
    std::ofstream(folder_ / name / "adapter_config.json")
        << plan.messages[0].header().config_json();
    std::ofstream tensors(folder_ / name / "adapter_model.safetensors",
                          std::ios::binary);
    for (size_t i = 1; i < plan.messages.size(); ++i) {
      tensors << plan.messages[i].chunk();
    }
  }
  void WriteManifest(const std::string& content) {
    std::ofstream(folder_ / "m.yaml") << content;
  }
  v1::Adapter Get(const std::string& id) {
    grpc::ClientContext context;
    v1::GetAdapterRequest request;
    request.set_adapter_id(id);
    v1::GetAdapterResponse response;
    server_.adapters().GetAdapter(&context, request, &response);
    return response.adapter();
  }

  const std::filesystem::path folder_;
  TestServer server_;
  ManifestReconciler reconciler_{server_.app().edge(),
                                 (folder_ / "m.yaml").string()};
};

TEST_F(ManifestReconcilerTest, StoresPinsAndRemoves) {
  WriteAdapter("one", 1);
  WriteAdapter("two", 2);
  ASSERT_TRUE(server_.Upload("old", 3).ok());
  ASSERT_TRUE(server_.Upload("other", 4).ok());
  WriteManifest(
      "adapters:\n"
      "  - {name: first, directory: one, pinned: true, labels: {team: x}}\n"
      "  - {name: second, directory: two}\n"
      "  - {name: old, absent: true}\n");
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_EQ(reconciler_.report().in_place, 3);
  EXPECT_EQ(reconciler_.report().changed, 3);
  EXPECT_TRUE(Get("first").pinned());
  EXPECT_EQ(Get("first").level(), v1::ADAPTER_LEVEL_DEVICE);
  EXPECT_EQ(Get("first").labels().at("team"), "x");
  EXPECT_FALSE(Get("second").pinned());
  EXPECT_EQ(Get("second").state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(Get("old").name(), "");
  EXPECT_EQ(Get("other").name(), "other") << "what it does not name, it leaves";

  // Again: nothing to do.
  const uint64_t version = Get("first").version();
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_EQ(reconciler_.report().in_place, 3);
  EXPECT_EQ(reconciler_.report().changed, 0);
  EXPECT_EQ(Get("first").version(), version);

  // The file changed, and so did an adapter.
  WriteAdapter("one", 7);
  const std::string before = Get("first").digest();
  WriteManifest("adapters: [{name: first, directory: one}]");
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_EQ(reconciler_.report().changed, 1);
  EXPECT_NE(Get("first").digest(), before);
  EXPECT_FALSE(Get("first").pinned());
  EXPECT_EQ(Get("second").name(), "second") << "no longer named, still there";

  // Back to a version that is kept.
  WriteManifest(
      absl::StrCat("adapters: [{name: first, digest: '", before, "'}]"));
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_EQ(Get("first").digest(), before);
}

TEST_F(ManifestReconcilerTest, OneBadEntryDoesNotStopTheOthers) {
  WriteAdapter("good", 1);
  WriteAdapter("bad", 2);
  std::ofstream(folder_ / "bad" / "adapter_model.safetensors") << "pickle";
  WriteManifest(
      absl::StrCat("adapters:\n"
                   "  - {name: bad, directory: bad, pinned: true}\n"
                   "  - {name: missing, directory: nowhere}\n"
                   "  - {name: unknown, digest: 'sha256:",
                   std::string(64, '0'),
                   "'}\n"
                   "  - {name: good, directory: good}\n"));
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_EQ(reconciler_.report().in_place, 1);
  EXPECT_EQ(reconciler_.report().failed, 3);
  EXPECT_EQ(Get("good").state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(Get("bad").name(), "");
}

TEST_F(ManifestReconcilerTest, ABadFileChangesNothing) {
  WriteAdapter("one", 1);
  WriteManifest("adapters: [{name: first, directory: one, pinned: true}]");
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  WriteManifest("adapters: [{name: first, path: one}]");
  EXPECT_EQ(reconciler_.Reconcile().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(reconciler_.report().stale);
  EXPECT_EQ(reconciler_.report().in_place, 1);
  EXPECT_TRUE(Get("first").pinned());
  WriteManifest("adapters: [{name: first, directory: one}]");
  ASSERT_TRUE(reconciler_.Reconcile().ok());
  EXPECT_FALSE(reconciler_.report().stale);
  // The engine lets go of a pin between steps.
  for (int i = 0; i < 500 && Get("first").pinned(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_FALSE(Get("first").pinned());
}

}  // namespace
}  // namespace descant
