// With a tenants file: who may call what, and what each tenant sees, over real
// gRPC with a real engine and the fake runner.
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "server/tenants.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAcmeKey[] = "acme-key";
constexpr char kGlobexKey[] = "globex-key";

std::shared_ptr<const TenantDirectory> TwoTenants() {
  auto tenants = TenantDirectory::Parse(
      absl::StrCat("tenants:\n", "- {id: acme, keys: [{id: k, sha256: ",
                   HexOf(Sha256Of(kAcmeKey)), "}]}\n",
                   "- {id: globex, keys: [{id: k, sha256: ",
                   HexOf(Sha256Of(kGlobexKey)), "}]}\n"),
      "t.yaml");
  EXPECT_TRUE(tenants.ok()) << tenants.status();
  return *tenants;
}

// Metadata "authorization", in order.
using Credentials = std::vector<std::string>;

// One message to any method; the bytes are an empty message of any type.
grpc::Status Call(TestServer* server, const std::string& method,
                  const Credentials& credentials) {
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  // A watch that is let in does not end by itself.
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(2));
  for (const std::string& value : credentials) {
    context.AddMetadata("authorization", value);
  }
  const grpc::Slice slice("");
  const grpc::ByteBuffer buffer(&slice, 1);
  grpc::GenericStub stub(server->channel());
  const auto call = stub.PrepareUnaryCall(&context, method, buffer, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

// The paths of all methods of the tenants' services, from the services
// themselves: one that is added later is tested too.
std::vector<std::string> TenantMethods() {
  std::vector<std::string> methods;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(),
        v1::GetAdapterRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      const auto* service = file->service(s);
      for (int m = 0; m < service->method_count(); ++m) {
        methods.push_back(absl::StrCat("/", service->full_name(), "/",
                                       service->method(m)->name()));
      }
    }
  }
  return methods;
}

// Row 76.
TEST(AuthenticationTest, NoMethodAnswersWithoutAKey) {
  TestServer server({.tenants = TwoTenants()});
  const std::vector<std::string> methods = TenantMethods();
  ASSERT_EQ(methods.size(), 14u);
  const std::vector<std::pair<const char*, Credentials>> cases = {
      {"none", {}},
      {"empty", {""}},
      {"no scheme", {kAcmeKey}},
      {"wrong scheme", {absl::StrCat("Basic ", kAcmeKey)}},
      {"no key", {"Bearer"}},
      {"empty key", {"Bearer "}},
      {"two spaces", {absl::StrCat("Bearer  ", kAcmeKey)}},
      {"unknown", {"Bearer nobody"}},
      {"part of a key", {"Bearer acme-ke"}},
      {"the hash", {absl::StrCat("Bearer ", HexOf(Sha256Of(kAcmeKey)))}},
      {"over 4 KiB", {absl::StrCat("Bearer ", std::string(4097, 'x'))}},
      {"twice the same",
       {absl::StrCat("Bearer ", kAcmeKey), absl::StrCat("Bearer ", kAcmeKey)}},
      {"good and bad", {absl::StrCat("Bearer ", kAcmeKey), "Bearer nobody"}},
      {"two in one", {absl::StrCat("Bearer ", kAcmeKey, ",Bearer ", kAcmeKey)}},
  };
  const grpc::Status expected = Call(&server, methods[0], {});
  for (const std::string& method : methods) {
    for (const auto& [name, credentials] : cases) {
      const grpc::Status status = Call(&server, method, credentials);
      EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED)
          << method << ", " << name;
      EXPECT_EQ(ReasonIn(status), "UNAUTHENTICATED");
      EXPECT_EQ(status.error_message(), expected.error_message());
      EXPECT_EQ(status.error_details(), expected.error_details());
    }
    for (const char* scheme : {"Bearer ", "bearer "}) {
      EXPECT_NE(
          Call(&server, method, {absl::StrCat(scheme, kAcmeKey)}).error_code(),
          StatusCode::UNAUTHENTICATED)
          << method;
    }
  }
  // Beyond the transport's limit on metadata gRPC answers, not a handler.
  EXPECT_EQ(Call(&server, methods[0],
                 {absl::StrCat("Bearer ", std::string(1 << 20, 'x'))})
                .error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST(AuthenticationTest, IdentityIsTheCallsNotTheConnections) {
  TestServer server({.tenants = TwoTenants()});
  const std::string method = "/descant.v1.GenerationService/GetModel";
  const std::string good = absl::StrCat("Bearer ", kAcmeKey);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Call(&server, method, {good}).ok());
    EXPECT_EQ(Call(&server, method, {}).error_code(),
              StatusCode::UNAUTHENTICATED);
  }
}

TEST(AuthenticationTest, OnlyHealthIsOpen) {
  TestServer server({.tenants = TwoTenants()});
  EXPECT_TRUE(Call(&server, "/grpc.health.v1.Health/Check", {}).ok());
  for (const char* method :
       {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/descant.v1.AdminService/GetStats"}) {
    EXPECT_EQ(
        Call(&server, method, {absl::StrCat("Bearer ", kAcmeKey)}).error_code(),
        StatusCode::UNIMPLEMENTED)
        << method;
  }
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server.admin().GetStats(&context, {}, &stats).ok())
      << "operators have a listener of their own";
}

// What the test above relies on: reflection answers where it is on.
TEST(AuthenticationTest, ReflectionIsThereWithoutTenantsOnLoopback) {
  const TestServer with_tenants({.tenants = TwoTenants()});
  TestServer server;
  EXPECT_TRUE(
      Call(&server,
           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {})
          .ok());
}

class TwoTenantsTest : public ::testing::Test {
 protected:
  static void Authorize(const std::string& key, grpc::ClientContext* context) {
    context->AddMetadata("authorization", absl::StrCat("Bearer ", key));
  }

  grpc::Status Get(const std::string& key, const std::string& id) {
    grpc::ClientContext context;
    Authorize(key, &context);
    v1::GetAdapterRequest request;
    request.set_adapter_id(id);
    v1::GetAdapterResponse response;
    return server_.adapters().GetAdapter(&context, request, &response);
  }

  grpc::Status Delete(const std::string& key, const std::string& id) {
    grpc::ClientContext context;
    Authorize(key, &context);
    v1::DeleteAdapterRequest request;
    request.set_adapter_id(id);
    v1::DeleteAdapterResponse response;
    return server_.adapters().DeleteAdapter(&context, request, &response);
  }

  grpc::Status Generate(const std::string& key, const std::string& id,
                        std::string* digest = nullptr) {
    grpc::ClientContext context;
    Authorize(key, &context);
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(5);
    request.set_adapter_id(id);
    request.mutable_stopping()->set_max_tokens(2);
    v1::GenerateResponse response;
    const grpc::Status status =
        server_.generation().Generate(&context, request, &response);
    if (digest != nullptr) *digest = response.adapter_digest();
    return status;
  }

  grpc::Status Download(const std::string& key, const std::string& id) {
    server_.UseKey(key);
    return DownloadAdapter(&server_, id).status;
  }

  grpc::Status Rollback(const std::string& key, const std::string& id) {
    grpc::ClientContext context;
    Authorize(key, &context);
    v1::RollbackAdapterRequest request;
    request.set_adapter_id(id);
    v1::RollbackAdapterResponse response;
    return server_.adapters().RollbackAdapter(&context, request, &response);
  }

  v1::ListAdaptersResponse List(const std::string& key) {
    grpc::ClientContext context;
    Authorize(key, &context);
    v1::ListAdaptersResponse response;
    EXPECT_TRUE(server_.adapters().ListAdapters(&context, {}, &response).ok());
    return response;
  }

  // The digest of the stored version.
  std::string Upload(const std::string& key, const std::string& name,
                     uint64_t seed) {
    server_.UseKey(key);
    v1::UploadAdapterResponse response;
    const grpc::Status status =
        server_.Send(server_.PlanUpload(name, seed), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(response.created());
    return response.adapter().digest();
  }

  TestServer server_{{.tenants = TwoTenants()}};
};

TEST_F(TwoTenantsTest, OneNameIsTwoAdapters) {
  const std::string of_acme = Upload(kAcmeKey, "support", 1);
  const std::string of_globex = Upload(kGlobexKey, "support", 2);
  ASSERT_NE(of_acme, of_globex);
  std::string digest;
  ASSERT_TRUE(Generate(kAcmeKey, "support", &digest).ok());
  EXPECT_EQ(digest, of_acme);
  ASSERT_TRUE(Generate(kGlobexKey, "support", &digest).ok());
  EXPECT_EQ(digest, of_globex);
  server_.UseKey(kAcmeKey);
  const std::vector<int32_t> tokens = server_.Tokens("support", 20);
  ASSERT_EQ(tokens.size(), 20u);
  server_.UseKey(kGlobexKey);
  EXPECT_NE(server_.Tokens("support", 20), tokens);

  ASSERT_EQ(List(kAcmeKey).adapters_size(), 1);
  EXPECT_EQ(List(kAcmeKey).adapters(0).digest(), of_acme);
  EXPECT_EQ(List(kAcmeKey).total_size(), 1u);

  // Deleting one leaves the other.
  EXPECT_TRUE(Delete(kAcmeKey, "support").ok());
  EXPECT_EQ(Get(kAcmeKey, "support").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(List(kAcmeKey).adapters_size(), 0);
  EXPECT_TRUE(Generate(kGlobexKey, "support").ok());
}

// The whole status, with its details, byte for byte.
TEST_F(TwoTenantsTest, AForeignAdapterIsAnAbsentOne) {
  // One answer before anyone has the name, the other after acme has it.
  const std::string digest = absl::StrCat("sha256:", std::string(64, 'a'));
  const auto ask = [&](const std::string& id) {
    return std::vector<grpc::Status>{
        Get(kGlobexKey, id), Delete(kGlobexKey, id), Generate(kGlobexKey, id),
        Download(kGlobexKey, id), Rollback(kGlobexKey, id)};
  };
  std::vector<grpc::Status> absent = ask("secret");
  for (grpc::Status& status : ask("secret@" + digest)) {
    absent.push_back(std::move(status));
  }
  Upload(kAcmeKey, "secret", 3);
  std::vector<grpc::Status> foreign = ask("secret");
  for (grpc::Status& status : ask("secret@" + digest)) {
    foreign.push_back(std::move(status));
  }
  for (size_t i = 0; i < absent.size(); ++i) {
    EXPECT_EQ(absent[i].error_code(), StatusCode::NOT_FOUND) << i;
    EXPECT_EQ(foreign[i].error_code(), absent[i].error_code()) << i;
    EXPECT_EQ(foreign[i].error_message(), absent[i].error_message()) << i;
    EXPECT_EQ(foreign[i].error_details(), absent[i].error_details()) << i;
  }
  EXPECT_EQ(List(kGlobexKey).adapters_size(), 0);
  EXPECT_EQ(List(kGlobexKey).total_size(), 0u);
  EXPECT_TRUE(Get(kAcmeKey, "secret").ok()) << "foreign deletes do nothing";
}

// An upload's id means something to its tenant only: to others it is as unknown
// as one that never was, and they may have the same.
TEST_F(TwoTenantsTest, AForeignUploadIsAnUnknownOne) {
  UploadPlan plan = server_.PlanUpload("mine", 8);
  plan.header()->set_upload_id("guessed-by-all");
  const std::string bytes = plan.Bytes();
  const auto ask = [&](const std::string& key) {
    server_.UseKey(key);
    v1::UploadAdapterHeader header = *plan.header();
    header.set_offset(100);
    v1::QueryUploadResponse query;
    std::vector<grpc::Status> answers;
    answers.push_back(QueryUpload(&server_, "guessed-by-all", &query));
    answers.push_back(UploadStream(&server_, header).Finish());
    return answers;
  };
  const auto expect_equal = [&](const std::vector<grpc::Status>& absent) {
    const std::vector<grpc::Status> foreign = ask(kGlobexKey);
    for (size_t i = 0; i < absent.size(); ++i) {
      EXPECT_EQ(absent[i].error_code(), StatusCode::NOT_FOUND) << i;
      EXPECT_EQ(foreign[i].error_code(), absent[i].error_code()) << i;
      EXPECT_EQ(foreign[i].error_message(), absent[i].error_message()) << i;
      EXPECT_EQ(foreign[i].error_details(), absent[i].error_details()) << i;
    }
  };
  const std::vector<grpc::Status> absent = ask(kGlobexKey);
  server_.UseKey(kAcmeKey);
  UploadStream parked(&server_, *plan.header());
  ASSERT_TRUE(parked.Send(bytes.substr(0, 100)));
  EXPECT_EQ(ReasonIn(parked.Close()), "UPLOAD_TRUNCATED");
  expect_equal(absent);
  server_.UseKey(kAcmeKey);
  v1::UploadAdapterResponse of_acme;
  ASSERT_TRUE(ResumeUpload(&server_, *plan.header(), bytes, &of_acme).ok());
  expect_equal(absent);  // nor is a result
  server_.UseKey(kGlobexKey);
  v1::UploadAdapterResponse of_globex;
  ASSERT_TRUE(ResumeUpload(&server_, *plan.header(), bytes, &of_globex).ok());
  EXPECT_TRUE(of_globex.created());
}

// The same bytes for two tenants are two versions with one digest: "created"
// tells nothing about the other's.
TEST_F(TwoTenantsTest, TheSameBytesAreNewToEach) {
  EXPECT_EQ(Upload(kAcmeKey, "same", 4), Upload(kGlobexKey, "same", 4));
  EXPECT_TRUE(Delete(kAcmeKey, "same").ok());
  EXPECT_TRUE(Generate(kGlobexKey, "same").ok());
}

TEST_F(TwoTenantsTest, NamesDontReachIntoOtherTenants) {
  Upload(kAcmeKey, "mine", 5);
  for (const char* id : {"../acme/mine", "acme%2Fmine", "acme/../acme/mine",
                         "/mine", "acme//mine", "acme/mine/"}) {
    EXPECT_EQ(Generate(kGlobexKey, id).error_code(),
              StatusCode::INVALID_ARGUMENT)
        << id;
  }
  EXPECT_EQ(Generate(kGlobexKey, "acme/mine").error_code(),
            StatusCode::NOT_FOUND)
      << "it is not shared";
}

TEST_F(TwoTenantsTest, LabelsOfMetricsNameTheTenant) {
  Upload(kAcmeKey, "support", 6);
  Upload(kGlobexKey, "support", 7);
  ASSERT_TRUE(Generate(kAcmeKey, "support").ok());
  ASSERT_TRUE(Generate(kGlobexKey, "support").ok());
  ASSERT_TRUE(Generate(kGlobexKey, "support").ok());
  const auto page = [this] {
    return RenderMetrics(*server_.app().edge()->metrics);
  };
  EXPECT_THAT(page(), HasSubstr("requests_total{adapter=\"acme/support\"} 1"));
  EXPECT_THAT(page(),
              HasSubstr("requests_total{adapter=\"globex/support\"} 2"));
  EXPECT_THAT(page(), Not(HasSubstr("adapter=\"support\"")));
  ASSERT_TRUE(Delete(kAcmeKey, "support").ok());
  EXPECT_THAT(page(), Not(HasSubstr("{adapter=\"acme/support\"")));
  EXPECT_THAT(page(), HasSubstr("{adapter=\"globex/support\""));
}

}  // namespace
}  // namespace descant
