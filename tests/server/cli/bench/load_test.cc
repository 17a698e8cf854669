#include "server/cli/bench/load.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace descant::cli {
namespace {

// Serves one stream after the other, each one token after `delay`.
class SlowService final : public v1::GenerationService::Service {
 public:
  explicit SlowService(std::chrono::milliseconds delay) : delay_(delay) {}

  grpc::Status GenerateStream(
      grpc::ServerContext*, const v1::GenerateStreamRequest*,
      grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override {
    const std::lock_guard lock(mutex_);
    std::this_thread::sleep_for(delay_);
    v1::GenerateStreamResponse response;
    response.mutable_delta()->add_token_ids(1);
    writer->Write(response);
    return grpc::Status::OK;
  }

 private:
  const std::chrono::milliseconds delay_;
  std::mutex mutex_;
};

class LoadTest : public testing::Test {
 protected:
  void Serve(std::chrono::milliseconds delay) {
    service_ = std::make_unique<SlowService>(delay);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::GenerationService::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                            grpc::InsecureChannelCredentials()));
  }

  std::unique_ptr<SlowService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

// All are due at once and served one by one: each waits for those before it,
// and that wait counts although the client never had to hold one back.
TEST_F(LoadTest, OpenLoopCountsFromTheTimeOfArrival) {
  Serve(std::chrono::milliseconds(20));
  const std::vector<v1::GenerateRequest> requests(6);
  LoadResult result;
  const grpc::Status status =
      RunOpenLoad(stub_.get(), requests, std::vector<double>(6, 0.0), &result);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<double> ttft;
  for (const StreamedAnswer& answer : result.answers) {
    EXPECT_EQ(answer.tokens.size(), 1u);
    EXPECT_GE(answer.late_ms, 0);
    ttft.push_back(answer.ttft_ms);
  }
  std::sort(ttft.begin(), ttft.end());
  for (size_t i = 0; i < ttft.size(); ++i) {
    EXPECT_GE(ttft[i], 20.0 * static_cast<double>(i + 1) - 1);
  }
}

TEST_F(LoadTest, OpenLoopSendsWhenDue) {
  Serve(std::chrono::milliseconds(1));
  const std::vector<v1::GenerateRequest> requests(3);
  LoadResult result;
  ASSERT_TRUE(
      RunOpenLoad(stub_.get(), requests, {0.0, 0.1, 0.2}, &result).ok());
  EXPECT_GE(result.seconds, 0.2);
  EXPECT_EQ(result.OutputTokens(), 3u);
}

TEST_F(LoadTest, ClosedLoopSendsAll) {
  Serve(std::chrono::milliseconds(1));
  const std::vector<v1::GenerateRequest> requests(9);
  LoadResult result;
  ASSERT_TRUE(RunLoad(stub_.get(), requests, 4, &result).ok());
  EXPECT_EQ(result.OutputTokens(), 9u);
  server_->Shutdown();
  EXPECT_FALSE(RunLoad(stub_.get(), requests, 4, &result).ok());
  EXPECT_FALSE(
      RunOpenLoad(stub_.get(), requests, std::vector<double>(9), &result).ok());
}

}  // namespace
}  // namespace descant::cli
