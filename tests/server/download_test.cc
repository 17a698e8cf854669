// Downloads over real gRPC from the real store: the bytes that came are the
// bytes that go, whatever happens to the name meanwhile; damage is told; slow
// and vanished readers are ended.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

namespace fs = std::filesystem;
using grpc::StatusCode;

void ExpectError(const grpc::Status& status, StatusCode code,
                 const std::string& reason) {
  EXPECT_EQ(status.error_code(), code) << status.error_message();
  EXPECT_EQ(ReasonIn(status), reason);
}

std::string Upload(TestServer* server, const UploadPlan& plan) {
  v1::UploadAdapterResponse response;
  const grpc::Status status = server->Send(plan, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.adapter().digest();
}

// A stream that a test reads at its own pace.
class SlowReader {
 public:
  SlowReader(TestServer* server, const std::string& id, int window = 0)
      : stub_(v1::AdapterService::NewStub(server->NewChannel(window))) {
    server->AddKey(&context_);
    v1::DownloadAdapterRequest request;
    request.set_adapter_id(id);
    reader_ = stub_->DownloadAdapter(&context_, request);
  }
  bool Read() { return reader_->Read(&message_); }
  std::string Rest() {
    std::string bytes;
    while (Read()) bytes += message_.chunk();
    return bytes;
  }
  grpc::Status Finish() { return reader_->Finish(); }
  void Cancel() { context_.TryCancel(); }
  const v1::DownloadAdapterResponse& message() const { return message_; }

 private:
  std::unique_ptr<v1::AdapterService::Stub> stub_;
  grpc::ClientContext context_;
  v1::DownloadAdapterResponse message_;
  std::unique_ptr<grpc::ClientReader<v1::DownloadAdapterResponse>> reader_;
};

// Whether no download holds a place, within five seconds.
bool AllAreOver(TestServer* server) {
  for (int i = 0; i < 500; ++i) {
    if (server->app().edge()->downloads.held() == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

// Three megabytes: several chunks.
constexpr int32_t kLargeRank = 512;

TEST(DownloadTest, GivesBackWhatWasUploaded) {
  TestServer server;
  for (const int32_t rank : {0, 1, 216, kLargeRank}) {
    const std::string name = absl::StrCat("a", rank);
    const UploadPlan plan = server.PlanUpload(name, 1, rank);
    const std::string digest = Upload(&server, plan);
    const Download download = DownloadAdapter(&server, name);
    ASSERT_TRUE(download.status.ok()) << download.status.error_message();
    EXPECT_EQ(download.header.adapter().digest(), digest);
    EXPECT_EQ(download.header.config_json(),
              plan.messages[0].header().config_json());
    const std::string bytes = plan.Bytes();
    EXPECT_EQ(download.header.size_bytes(), bytes.size());
    EXPECT_TRUE(download.bytes == bytes) << rank;
    EXPECT_EQ(download.chunks,
              static_cast<int>((bytes.size() + (1 << 20) - 1) >> 20));
  }
  EXPECT_TRUE(AllAreOver(&server));
}

TEST(DownloadTest, OlderVersionsToo) {
  TestServer server;
  std::vector<UploadPlan> plans;
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    plans.push_back(server.PlanUpload("v", i + 1));
    plans.back().header()->set_replace(true);
    ids.push_back(absl::StrCat("v@", Upload(&server, plans.back())));
  }
  for (int i = 0; i < 3; ++i) {
    const Download download = DownloadAdapter(&server, ids[i]);
    ASSERT_TRUE(download.status.ok()) << download.status.error_message();
    EXPECT_TRUE(download.bytes == plans[i].Bytes()) << i;
    EXPECT_EQ(absl::StrCat("v@", download.header.adapter().digest()), ids[i]);
  }
}

TEST(DownloadTest, WhileTheNameIsReplacedAndDeleted) {
  TestServer server;
  const UploadPlan plan = server.PlanUpload("moving", 1, kLargeRank);
  Upload(&server, plan);
  SlowReader reader(&server, "moving", 4096);
  ASSERT_TRUE(reader.Read());
  ASSERT_TRUE(reader.message().has_header());
  UploadPlan other = server.PlanUpload("moving", 2);
  other.header()->set_replace(true);
  Upload(&server, other);
  ASSERT_TRUE(DeleteAdapter(&server, "moving").ok());
  server.app().edge()->store->CollectGarbage();
  EXPECT_TRUE(reader.Rest() == plan.Bytes());
  EXPECT_TRUE(reader.Finish().ok());
  ExpectError(DownloadAdapter(&server, "moving").status, StatusCode::NOT_FOUND,
              "ADAPTER_NOT_FOUND");
}

TEST(DownloadTest, DamageIsToldAtTheEnd) {
  TestServer server;
  const UploadPlan plan = server.PlanUpload("damaged", 1, kLargeRank);
  Upload(&server, plan);
  ASSERT_TRUE(server.Upload("sound", 2).ok());
  const std::vector<int32_t> tokens = server.Tokens("sound", 20);
  // The largest blob is the damaged one; its last byte is of a tensor.
  fs::path blob;
  for (const auto& file :
       fs::recursive_directory_iterator(server.adapter_dir() + "/blobs")) {
    if (!file.is_regular_file()) continue;
    if (blob.empty() || file.file_size() > fs::file_size(blob)) {
      blob = file.path();
    }
  }
  std::fstream file(blob, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const char last = static_cast<char>(file.get());
  file.seekp(-1, std::ios::end);
  file.put(static_cast<char>(last ^ 1));
  file.close();

  const Download download = DownloadAdapter(&server, "damaged");
  ExpectError(download.status, StatusCode::DATA_LOSS, "ADAPTER_DATA_LOSS");
  EXPECT_EQ(download.bytes.size(), plan.Bytes().size());
  v1::GetAdapterResponse found;
  ASSERT_TRUE(GetAdapter(&server, "damaged", &found).ok());
  EXPECT_EQ(found.adapter().state(), v1::ADAPTER_STATE_QUARANTINED);
  EXPECT_EQ(server.Tokens("sound", 20), tokens);
  EXPECT_TRUE(DownloadAdapter(&server, "sound").status.ok());
  EXPECT_TRUE(AllAreOver(&server));
}

TEST(DownloadTest, AReaderThatStopsIsEnded) {
  TestServer server({.stream_stall_timeout = std::chrono::milliseconds(300)});
  Upload(&server, server.PlanUpload("large", 1, kLargeRank));
  SlowReader reader(&server, "large", 4096);
  ASSERT_TRUE(reader.Read());
  EXPECT_TRUE(AllAreOver(&server)) << "though nobody reads on";
  reader.Rest();
  ExpectError(reader.Finish(), StatusCode::RESOURCE_EXHAUSTED,
              "STREAM_STALLED");
}

TEST(DownloadTest, ACancelFreesAtOnce) {
  TestServer server;
  Upload(&server, server.PlanUpload("large", 1, kLargeRank));
  for (int reads = 0; reads < 3; ++reads) {
    SlowReader reader(&server, "large", 4096);
    for (int i = 0; i < reads; ++i) ASSERT_TRUE(reader.Read());
    reader.Cancel();
    reader.Rest();
    EXPECT_EQ(reader.Finish().error_code(), StatusCode::CANCELLED);
    EXPECT_TRUE(AllAreOver(&server));
  }
}

TEST(DownloadTest, AreCounted) {
  TestServer server;
  Upload(&server, server.PlanUpload("large", 1, kLargeRank));
  std::vector<std::unique_ptr<SlowReader>> readers;
  for (int i = 0; i < limits::kMaxParallelDownloads; ++i) {
    readers.push_back(std::make_unique<SlowReader>(&server, "large", 4096));
    ASSERT_TRUE(readers.back()->Read());
  }
  const grpc::Status status = DownloadAdapter(&server, "large").status;
  ExpectError(status, StatusCode::RESOURCE_EXHAUSTED, "DOWNLOAD_LIMIT");
  EXPECT_TRUE(HasRetryInfo(status));
  EXPECT_TRUE(server.Upload("other", 2).ok()) << "uploads have their own";
  for (auto& reader : readers) reader->Cancel();
  EXPECT_TRUE(AllAreOver(&server));
  EXPECT_TRUE(DownloadAdapter(&server, "large").status.ok());
}

TEST(DownloadTest, BadIds) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  for (const char* id : {"", "../x", "a@", "a@sha256:12", "a b", "@"}) {
    EXPECT_EQ(DownloadAdapter(&server, id).status.error_code(),
              StatusCode::INVALID_ARGUMENT)
        << id;
  }
  ExpectError(DownloadAdapter(&server, "b").status, StatusCode::NOT_FOUND,
              "ADAPTER_NOT_FOUND");
  ExpectError(
      DownloadAdapter(&server, "a@sha256:" + std::string(64, '0')).status,
      StatusCode::NOT_FOUND, "ADAPTER_NOT_FOUND");
  server.app().edge()->draining = true;
  ExpectError(DownloadAdapter(&server, "a").status, StatusCode::UNAVAILABLE,
              "DRAINING");
}

}  // namespace
}  // namespace descant
