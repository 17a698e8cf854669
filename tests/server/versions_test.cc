// Versions of a name over real gRPC: listing, rollback, guarded deletion,
// labels, and uploads that are only checked.
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;

void ExpectError(const grpc::Status& status, StatusCode code,
                 const std::string& reason) {
  EXPECT_EQ(status.error_code(), code) << status.error_message();
  EXPECT_EQ(ReasonIn(status), reason);
}

class VersionsTest : public ::testing::Test {
 protected:
  v1::Adapter Upload(const std::string& name, uint64_t seed,
                     const std::string& label = "") {
    UploadPlan plan = server_.PlanUpload(name, seed);
    plan.header()->set_replace(true);
    if (!label.empty()) (*plan.header()->mutable_labels())["note"] = label;
    v1::UploadAdapterResponse response;
    const grpc::Status status = server_.Send(plan, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.adapter();
  }

  v1::GetAdapterResponse Get(const std::string& id) {
    v1::GetAdapterResponse response;
    const grpc::Status status = GetAdapter(&server_, id, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::vector<uint64_t> VersionsOf(const std::string& name) {
    std::vector<uint64_t> versions;
    const v1::GetAdapterResponse response = Get(name);
    for (const v1::Adapter& adapter : response.versions()) {
      versions.push_back(adapter.version());
    }
    return versions;
  }

  grpc::Status Rollback(const std::string& id, v1::Adapter* adapter = nullptr,
                        std::optional<uint64_t> expected = std::nullopt) {
    grpc::ClientContext context;
    v1::RollbackAdapterRequest request;
    request.set_adapter_id(id);
    if (expected) request.set_expected_version(*expected);
    v1::RollbackAdapterResponse response;
    const grpc::Status status =
        server_.adapters().RollbackAdapter(&context, request, &response);
    if (adapter != nullptr) *adapter = response.adapter();
    return status;
  }

  std::string Listed() {
    grpc::ClientContext context;
    v1::ListAdaptersResponse response;
    EXPECT_TRUE(server_.adapters().ListAdapters(&context, {}, &response).ok());
    return response.SerializeAsString();
  }

  TestServer server_;
};

TEST_F(VersionsTest, TheCurrentOneFirst) {
  const v1::Adapter one = Upload("v", 1, "first");
  const v1::Adapter two = Upload("v", 2, "second");
  EXPECT_GT(two.version(), one.version());
  EXPECT_THAT(VersionsOf("v"), ElementsAre(two.version(), one.version()));
  const v1::GetAdapterResponse old = Get("v@" + one.digest());
  EXPECT_EQ(old.adapter().version(), one.version());
  EXPECT_EQ(old.adapter().labels().at("note"), "first");
  EXPECT_EQ(old.versions_size(), 2);
  EXPECT_EQ(Get("v").adapter().labels().at("note"), "second");
  EXPECT_EQ(server_.Tokens("v@" + one.digest(), 12).size(), 12u)
      << "an older version is served where it is pinned";
  EXPECT_NE(server_.Tokens("v@" + one.digest(), 12), server_.Tokens("v", 12));
  // At most four are kept.
  for (uint64_t seed = 3; seed <= 6; ++seed) Upload("v", seed);
  EXPECT_EQ(VersionsOf("v").size(), 4u);
  v1::GetAdapterResponse gone;
  ExpectError(GetAdapter(&server_, "v@" + one.digest(), &gone),
              StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
}

TEST_F(VersionsTest, RollsBack) {
  const v1::Adapter one = Upload("v", 1, "first");
  const std::vector<int32_t> tokens = server_.Tokens("v", 12);
  const v1::Adapter two = Upload("v", 2);
  v1::Adapter back;
  ASSERT_TRUE(Rollback("v", &back).ok());
  EXPECT_EQ(back.digest(), one.digest());
  EXPECT_GT(back.version(), two.version());
  EXPECT_EQ(back.labels().at("note"), "first");
  EXPECT_EQ(server_.Tokens("v", 12), tokens);
  EXPECT_EQ(Get("v").adapter().version(), back.version());

  v1::Adapter forth;
  ASSERT_TRUE(Rollback("v@" + two.digest(), &forth, back.version()).ok());
  EXPECT_EQ(forth.digest(), two.digest());
  ExpectError(Rollback("v@" + one.digest(), nullptr, back.version()),
              StatusCode::ABORTED, "ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(Get("v").adapter().digest(), two.digest());
}

TEST_F(VersionsTest, RollbacksThatCannotBe) {
  ExpectError(Rollback("v"), StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  Upload("v", 1);
  ExpectError(Rollback("v"), StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  ExpectError(Rollback("v@sha256:" + std::string(64, '0')),
              StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  for (const char* id : {"", "v@", "../v", "v@md5:00"}) {
    EXPECT_EQ(Rollback(id).error_code(), StatusCode::INVALID_ARGUMENT) << id;
  }
  EXPECT_EQ(VersionsOf("v").size(), 1u);
}

TEST_F(VersionsTest, APinnedDeletionIsOfTheCurrentVersionOnly) {
  const v1::Adapter one = Upload("v", 1);
  const v1::Adapter two = Upload("v", 2);
  ExpectError(DeleteAdapter(&server_, "v@" + one.digest()), StatusCode::ABORTED,
              "ADAPTER_VERSION_MISMATCH");
  ExpectError(DeleteAdapter(&server_, "v@sha256:" + std::string(64, '0')),
              StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  EXPECT_EQ(VersionsOf("v").size(), 2u);
  v1::DeleteAdapterResponse response;
  ASSERT_TRUE(DeleteAdapter(&server_, "v@" + two.digest(), &response).ok());
  EXPECT_EQ(response.digest(), two.digest());
  v1::GetAdapterResponse gone;
  for (const v1::Adapter& version : {one, two}) {
    ExpectError(GetAdapter(&server_, "v@" + version.digest(), &gone),
                StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  }
}

TEST_F(VersionsTest, OnlyCheckedItIsNotStored) {
  Upload("there", 1);
  const std::string listed = Listed();
  const uint64_t stored = server_.app().edge()->store->Stats().stored_bytes;
  UploadPlan plan = server_.PlanUpload("checked", 2);
  plan.header()->set_validate_only(true);
  (*plan.header()->mutable_labels())["k"] = "v";
  v1::UploadAdapterResponse response;
  ASSERT_TRUE(server_.Send(plan, &response).ok());
  EXPECT_FALSE(response.created());
  EXPECT_EQ(response.adapter().name(), "checked");
  EXPECT_EQ(response.adapter().labels().at("k"), "v");
  EXPECT_GT(response.adapter().parameter_count(), 0u);
  EXPECT_THAT(response.adapter().target_modules(), ElementsAre("q_proj"));
  EXPECT_EQ(Listed(), listed);
  EXPECT_EQ(server_.app().edge()->store->Stats().stored_bytes, stored);
  EXPECT_TRUE(NothingIsStaged(&server_));
  v1::GetAdapterResponse found;
  ExpectError(GetAdapter(&server_, "checked", &found), StatusCode::NOT_FOUND,
              "ADAPTER_NOT_FOUND");
  // The digest is the one it will have.
  plan.header()->set_validate_only(false);
  v1::UploadAdapterResponse created;
  ASSERT_TRUE(server_.Send(plan, &created).ok());
  EXPECT_TRUE(created.created());
  EXPECT_EQ(created.adapter().digest(), response.adapter().digest());

  // Conflicts are found too.
  plan = server_.PlanUpload("there", 3);
  plan.header()->set_validate_only(true);
  ExpectError(server_.Send(plan), StatusCode::ALREADY_EXISTS, "ADAPTER_EXISTS");
  plan.header()->set_expected_version(0);
  ExpectError(server_.Send(plan), StatusCode::ABORTED,
              "ADAPTER_VERSION_MISMATCH");
  plan.header()->clear_expected_version();
  plan.header()->set_replace(true);
  EXPECT_TRUE(server_.Send(plan).ok());
  EXPECT_EQ(VersionsOf("there").size(), 1u);
}

// As an upload in parts as well.
TEST_F(VersionsTest, OnlyCheckedInParts) {
  UploadPlan plan = server_.PlanUpload("checked", 2);
  plan.header()->set_validate_only(true);
  plan.header()->set_upload_id("only-checked");
  const std::string bytes = plan.Bytes();
  UploadStream first(&server_, *plan.header());
  ASSERT_TRUE(first.Send(bytes.substr(0, 700)));
  first.Close();
  v1::UploadAdapterResponse response;
  ASSERT_TRUE(ResumeUpload(&server_, *plan.header(), bytes, &response).ok());
  EXPECT_FALSE(response.created());
  v1::GetAdapterResponse found;
  EXPECT_EQ(GetAdapter(&server_, "checked", &found).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_TRUE(NothingIsStaged(&server_));
}

}  // namespace
}  // namespace descant
