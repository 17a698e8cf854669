// Uploads with an upload_id: streams that break and go on, at random points and
// against hostile callers. Over real gRPC, with the real store.
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/metrics.h"
#include "tests/server/cutting_proxy.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;

constexpr char kId[] = "upload-0001";

class UploadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(server_.Upload("neighbour", 7).ok());
    tokens_ = server_.Tokens("neighbour", 24);
    ASSERT_EQ(tokens_.size(), 24u);
  }
  void TearDown() override {
    EXPECT_EQ(server_.Tokens("neighbour", 24), tokens_);
  }

  // A header with an upload_id, and the bytes.
  std::pair<v1::UploadAdapterHeader, std::string> Plan(
      const std::string& name, uint64_t seed, int32_t rank = 0,
      const std::string& upload_id = kId) {
    UploadPlan plan = server_.PlanUpload(name, seed, rank);
    plan.header()->set_upload_id(upload_id);
    return {*plan.header(), plan.Bytes()};
  }

  // What the adapter's digest is where it is sent in one go.
  std::string DigestInOneGo(const std::string& name, uint64_t seed,
                            int32_t rank = 0) {
    UploadPlan plan = server_.PlanUpload(name, seed, rank);
    v1::UploadAdapterResponse response;
    EXPECT_TRUE(server_.Send(plan, &response).ok());
    EXPECT_TRUE(DeleteAdapter(&server_, name).ok());
    return response.adapter().digest();
  }

  // The committed size, once it is `at_least`.
  uint64_t Committed(uint64_t at_least, const std::string& id = kId) {
    v1::QueryUploadResponse query;
    for (int i = 0; i < 500; ++i) {
      EXPECT_TRUE(QueryUpload(&server_, id, &query).ok());
      if (query.committed_size() >= at_least) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return query.committed_size();
  }

  std::string Metrics() {
    return RenderMetrics(*server_.app().edge()->metrics);
  }

  TestServer server_{{.upload_idle_timeout = std::chrono::seconds(5)}};
  std::vector<int32_t> tokens_;
};

void ExpectError(const grpc::Status& status, StatusCode code,
                 const std::string& reason) {
  EXPECT_EQ(status.error_code(), code) << status.error_message();
  EXPECT_EQ(ReasonIn(status), reason);
}

TEST_F(UploadTest, GoesOnAfterACancel) {
  const std::string digest = DigestInOneGo("mine", 1, 64);
  auto [header, bytes] = Plan("mine", 1, 64);
  const size_t half = bytes.size() / 2 + 1;
  UploadStream first(&server_, header);
  ASSERT_TRUE(first.Send(bytes.substr(0, half), 1000));
  // What the server has not read when the stream breaks is not counted.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(first.Cancel().error_code(), StatusCode::CANCELLED);

  v1::UploadAdapterResponse response;
  uint64_t sent = 0;
  EXPECT_GT(Committed(1), 0u);
  ASSERT_TRUE(ResumeUpload(&server_, header, bytes, &response, &sent).ok());
  EXPECT_TRUE(response.created());
  EXPECT_EQ(response.adapter().digest(), digest);
  EXPECT_LT(sent, bytes.size()) << "only the rest is sent again";
  EXPECT_TRUE(NothingIsStaged(&server_));
}

TEST_F(UploadTest, AHalfClosedStreamGoesOnExactlyThere) {
  auto [header, bytes] = Plan("mine", 2);
  UploadStream first(&server_, header);
  ASSERT_TRUE(first.Send(bytes.substr(0, 1234), 7));
  ExpectError(first.Close(), StatusCode::INVALID_ARGUMENT, "UPLOAD_TRUNCATED");
  v1::QueryUploadResponse query;
  ASSERT_TRUE(QueryUpload(&server_, kId, &query).ok());
  EXPECT_EQ(query.committed_size(), 1234u);
  EXPECT_FALSE(query.complete());

  for (const uint64_t wrong :
       {uint64_t{0}, uint64_t{1233}, uint64_t{1235}, uint64_t{bytes.size()},
        uint64_t{1} << 63, ~uint64_t{0}}) {
    header.set_offset(wrong);
    const grpc::Status status = UploadStream(&server_, header).Finish();
    ExpectError(status, StatusCode::FAILED_PRECONDITION, "UPLOAD_OFFSET");
    EXPECT_THAT(status.error_message(), HasSubstr("1234"));
  }
  header.set_offset(1234);
  UploadStream second(&server_, header);
  ASSERT_TRUE(second.Send(bytes.substr(1234)));
  EXPECT_TRUE(second.Close().ok());
}

// Breaks at random points, with random chunks; the digest is that of one go.
TEST_F(UploadTest, BrokenAtRandomPointsItIsTheSameAdapter) {
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  std::mt19937_64 random(seed);
  const auto draw = [&random](uint64_t below) { return random() % below; };
  int continued = 0;
  for (int round = 0; round < 16; ++round) {
    const int32_t rank = 1 << draw(8);
    const std::string digest = DigestInOneGo("r", round, rank);
    auto [header, bytes] =
        Plan("r", round, rank, absl::StrCat("random-", round));
    for (uint64_t breaks = draw(6); breaks > 0; --breaks) {
      v1::QueryUploadResponse query;
      QueryUpload(&server_, header.upload_id(), &query).ok();
      const uint64_t at = query.committed_size();
      ASSERT_LE(at, bytes.size());
      if (at > 0) ++continued;
      header.set_offset(at);
      UploadStream stream(&server_, header);
      stream.Send(bytes.substr(at, draw(bytes.size() - at + 1)),
                  1 + draw(100000));
      if (draw(2) == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(draw(20)));
      }
      draw(3) == 0 ? stream.Close() : stream.Cancel();
    }
    v1::UploadAdapterResponse response;
    const grpc::Status status =
        ResumeUpload(&server_, header, bytes, &response);
    ASSERT_TRUE(status.ok()) << round << ": " << status.error_message();
    EXPECT_EQ(response.adapter().digest(), digest) << round;
    EXPECT_EQ(response.adapter().size_bytes(), bytes.size());
    ASSERT_TRUE(DeleteAdapter(&server_, "r").ok());
  }
  EXPECT_GT(continued, 5) << "breaks that had something to keep";
  EXPECT_TRUE(NothingIsStaged(&server_));
}

// The connection itself breaks: nobody tells the server.
TEST_F(UploadTest, ConnectionsThatBreak) {
  const std::string digest = DigestInOneGo("c", 3, 256);
  auto [header, bytes] = Plan("c", 3, 256);
  CuttingProxy proxy(server_.address());
  proxy.CutAfter(900 << 10);
  {
    const auto stub = v1::AdapterService::NewStub(grpc::CreateChannel(
        proxy.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::UploadAdapterResponse response;
    const auto writer = stub->UploadAdapter(&context, &response);
    v1::UploadAdapterRequest message;
    *message.mutable_header() = header;
    writer->Write(message);
    for (size_t at = 0; at < bytes.size(); at += 10000) {
      message.set_chunk(bytes.substr(at, 10000));
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(), StatusCode::UNAVAILABLE);
  }
  EXPECT_EQ(proxy.cuts(), 1);
  // Some of it, and maybe all, was still on its way, and is not counted.
  v1::QueryUploadResponse query;
  if (QueryUpload(&server_, kId, &query).ok()) {
    EXPECT_LE(query.committed_size(), 900u << 10);
  }
  v1::UploadAdapterResponse response;
  ASSERT_TRUE(ResumeUpload(&server_, header, bytes, &response).ok());
  EXPECT_EQ(response.adapter().digest(), digest);
}

TEST_F(UploadTest, ALostAnswerIsLearnedAgain) {
  auto [header, bytes] = Plan("mine", 4);
  UploadStream stream(&server_, header);
  ASSERT_TRUE(stream.Send(bytes));
  ASSERT_TRUE(stream.Close().ok());

  v1::QueryUploadResponse query;
  ASSERT_TRUE(QueryUpload(&server_, kId, &query).ok());
  EXPECT_TRUE(query.complete());
  EXPECT_EQ(query.committed_size(), bytes.size());
  EXPECT_EQ(query.adapter().SerializeAsString(),
            stream.response().adapter().SerializeAsString());

  header.set_offset(bytes.size());
  UploadStream again(&server_, header);
  EXPECT_TRUE(again.Close().ok());
  EXPECT_EQ(again.response().SerializeAsString(),
            stream.response().SerializeAsString());
  header.set_offset(0);
  ExpectError(UploadStream(&server_, header).Finish(),
              StatusCode::FAILED_PRECONDITION, "UPLOAD_OFFSET");
  // Whatever became of the name since.
  ASSERT_TRUE(DeleteAdapter(&server_, "mine").ok());
  ASSERT_TRUE(QueryUpload(&server_, kId, &query).ok());
  EXPECT_TRUE(query.complete());
}

TEST_F(UploadTest, AStreamThatStopsIsParkedWithAllItsBytes) {
  TestServer server({.upload_idle_timeout = std::chrono::milliseconds(300)});
  UploadPlan plan = server.PlanUpload("mine", 5);
  plan.header()->set_upload_id(kId);
  const std::string bytes = plan.Bytes();
  UploadStream stream(&server, *plan.header());
  ASSERT_TRUE(stream.Send(bytes.substr(0, 1000)));
  ExpectError(stream.Finish(), StatusCode::DEADLINE_EXCEEDED, "UPLOAD_IDLE");
  v1::QueryUploadResponse query;
  for (int i = 0; i < 200 && query.committed_size() < 1000; ++i) {
    ASSERT_TRUE(QueryUpload(&server, kId, &query).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(query.committed_size(), 1000u);
  EXPECT_EQ(server.StagedFiles(), 1u);
  v1::UploadAdapterResponse response;
  EXPECT_TRUE(ResumeUpload(&server, *plan.header(), bytes, &response).ok());
}

TEST_F(UploadTest, TheLaterOfTwoStreamsGetsIt) {
  auto [header, bytes] = Plan("mine", 6);
  UploadStream dead(&server_, header);
  ASSERT_TRUE(dead.Send(bytes.substr(0, 2000)));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  header.set_offset(2000);
  const grpc::Status busy = UploadStream(&server_, header).Finish();
  ExpectError(busy, StatusCode::UNAVAILABLE, "UPLOAD_BUSY");
  EXPECT_TRUE(HasRetryInfo(busy));
  ExpectError(dead.Finish(), StatusCode::ABORTED, "UPLOAD_TAKEN_OVER");
  EXPECT_EQ(Committed(2000), 2000u);
  v1::UploadAdapterResponse response;
  EXPECT_TRUE(ResumeUpload(&server_, header, bytes, &response).ok());
}

TEST_F(UploadTest, ManyStreamsOfOneUploadMakeOneAdapter) {
  const std::string digest = DigestInOneGo("mine", 7, 32);
  auto [header, bytes] = Plan("mine", 7, 32);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, header = header, bytes = bytes] {
      v1::UploadAdapterResponse response;
      const grpc::Status status =
          ResumeUpload(&server_, header, bytes, &response);
      if (status.ok() ? response.adapter().digest() != digest
                      : ReasonIn(status) != "UPLOAD_TAKEN_OVER") {
        ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  v1::UploadAdapterResponse response;
  ASSERT_TRUE(ResumeUpload(&server_, header, bytes, &response).ok());
  EXPECT_EQ(response.adapter().digest(), digest);
  EXPECT_TRUE(NothingIsStaged(&server_));
}

TEST_F(UploadTest, WhatWasRefusedIsForgotten) {
  auto [header, bytes] = Plan("mine", 8);
  std::string bad = bytes;
  // The largest bfloat16: over the limit of values.
  bad[bad.size() - 1] = '\x7f';
  bad[bad.size() - 2] = '\x7f';
  header.clear_sha256();
  UploadStream stream(&server_, header);
  stream.Send(bad);
  ExpectError(stream.Close(), StatusCode::INVALID_ARGUMENT, "ADAPTER_VALUE");
  v1::QueryUploadResponse query;
  ExpectError(QueryUpload(&server_, kId, &query), StatusCode::NOT_FOUND,
              "UPLOAD_UNKNOWN");
  EXPECT_TRUE(NothingIsStaged(&server_));
  // The id is free again.
  UploadStream again(&server_, header);
  ASSERT_TRUE(again.Send(bytes));
  EXPECT_TRUE(again.Close().ok());
}

TEST_F(UploadTest, OtherFieldsMustBeAsTheyWere) {
  auto [header, bytes] = Plan("mine", 9);
  (*header.mutable_labels())["stage"] = "test";
  UploadStream first(&server_, header);
  ASSERT_TRUE(first.Send(bytes.substr(0, 100)));
  ExpectError(first.Close(), StatusCode::INVALID_ARGUMENT, "UPLOAD_TRUNCATED");
  header.set_offset(100);
  using H = v1::UploadAdapterHeader;
  const std::vector<std::function<void(H*)>> changes = {
      [](H* h) { h->set_name("other"); },
      [](H* h) { h->mutable_config_json()->push_back(' '); },
      [](H* h) { h->set_size_bytes(h->size_bytes() + 1); },
      [](H* h) { h->clear_sha256(); },
      [](H* h) { h->set_sha256(std::string(64, '0')); },
      [](H* h) { h->set_replace(true); },
      [](H* h) { h->set_base_fingerprint(""); },
      [](H* h) { h->set_expected_version(0); },
      [](H* h) { h->set_validate_only(true); },
      [](H* h) { h->clear_labels(); },
      [](H* h) { (*h->mutable_labels())["stage"] = "prod"; },
      [](H* h) { h->set_format(v1::ADAPTER_FORMAT_SAFETENSORS); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    v1::UploadAdapterHeader changed = header;
    changes[i](&changed);
    const grpc::Status status = UploadStream(&server_, changed).Finish();
    EXPECT_EQ(ReasonIn(status), "UPLOAD_MISMATCH") << i;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  }
  UploadStream rest(&server_, header);
  ASSERT_TRUE(rest.Send(bytes.substr(100)));
  EXPECT_TRUE(rest.Close().ok()) << "none of them touched it";
}

TEST_F(UploadTest, ATenantsUnfinishedUploadsAreCounted) {
  // The streams are held one after the other: places for streams are fewer.
  std::vector<std::string> ids;
  for (size_t i = 0; i < limits::kMaxOpenUploadsPerTenant; ++i) {
    auto [header, bytes] =
        Plan(absl::StrCat("open", i), 1, 0, absl::StrCat("open-upload-", i));
    UploadStream stream(&server_, header);
    ExpectError(stream.Close(), StatusCode::INVALID_ARGUMENT,
                "UPLOAD_TRUNCATED");
  }
  auto [header, bytes] = Plan("more", 1, 0, "one-too-many");
  const grpc::Status status = UploadStream(&server_, header).Finish();
  ExpectError(status, StatusCode::RESOURCE_EXHAUSTED, "UPLOAD_LIMIT");
  EXPECT_TRUE(HasRetryInfo(status));
  // One that is finished makes room.
  auto [open, open_bytes] = Plan("open0", 1, 0, "open-upload-0");
  v1::UploadAdapterResponse response;
  EXPECT_TRUE(ResumeUpload(&server_, open, open_bytes, &response).ok());
  EXPECT_TRUE(ResumeUpload(&server_, header, bytes, &response).ok());
}

TEST_F(UploadTest, ParallelStreamsAreCounted) {  // row 13
  std::vector<std::unique_ptr<UploadStream>> streams;
  for (int i = 0; i < limits::kMaxParallelUploads; ++i) {
    auto [header, bytes] =
        Plan(absl::StrCat("p", i), 1, 0, absl::StrCat("parallel-", i));
    streams.push_back(std::make_unique<UploadStream>(&server_, header));
    streams.back()->Send(bytes.substr(0, 10));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const grpc::Status status = server_.Upload("more", 1);
  ExpectError(status, StatusCode::RESOURCE_EXHAUSTED, "UPLOAD_LIMIT");
  for (auto& stream : streams) stream->Cancel();
  for (int i = 0; i < 500 && server_.app().edge()->uploads.held() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(server_.Upload("more", 1).ok());
}

TEST_F(UploadTest, AnUploadCountsOnce) {
  const std::string before = Metrics();
  auto [header, bytes] = Plan("mine", 10);
  UploadStream first(&server_, header);
  ASSERT_TRUE(first.Send(bytes.substr(0, 500)));
  first.Close();
  const std::string parked = Metrics();
  EXPECT_THAT(parked, HasSubstr("descant_uploads_total{code=\"OK\"} 1\n"));
  EXPECT_FALSE(absl::StrContains(
      parked, "descant_uploads_total{code=\"INVALID_ARGUMENT\"}"));
  v1::UploadAdapterResponse response;
  ASSERT_TRUE(ResumeUpload(&server_, header, bytes, &response).ok());
  header.set_offset(bytes.size());
  EXPECT_TRUE(UploadStream(&server_, header).Close().ok());
  EXPECT_THAT(Metrics(), HasSubstr("descant_uploads_total{code=\"OK\"} 2\n"));
  EXPECT_THAT(Metrics(), HasSubstr("descant_upload_seconds_count 2\n"));
  EXPECT_THAT(Metrics(), HasSubstr(absl::StrCat("descant_upload_bytes_total ",
                                                2 * bytes.size(), "\n")));
}

TEST_F(UploadTest, ADrainParksNothing) {
  auto [header, bytes] = Plan("mine", 11);
  UploadStream parked(&server_, header);
  ASSERT_TRUE(parked.Send(bytes.substr(0, 500)));
  parked.Close();
  EXPECT_EQ(server_.StagedFiles(), 1u);
  auto [running_header, running_bytes] = Plan("run", 12, 0, "running-upload");
  UploadStream running(&server_, running_header);
  ASSERT_TRUE(running.Send(running_bytes.substr(0, 500)));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  tokens_ = {};  // the neighbour is gone too

  std::thread drain([this] { server_.Drain(std::chrono::seconds(1)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  v1::QueryUploadResponse query;
  ExpectError(QueryUpload(&server_, kId, &query), StatusCode::UNAVAILABLE,
              "DRAINING");
  EXPECT_EQ(server_.StagedFiles(), 1u) << "only the one that runs";
  drain.join();
  EXPECT_FALSE(running.Finish().ok());
  EXPECT_TRUE(NothingIsStaged(&server_));
}

}  // namespace
}  // namespace descant
