// The client's upload against the real server, over connections that break.
#include "server/cli/adapter_upload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/cli/connection.h"
#include "tests/server/cutting_proxy.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant::cli {
namespace {

class AdapterUploadTest : public testing::Test {
 protected:
  // Sends an adapter of some hundred kilobytes through the proxy.
  grpc::Status Upload(uint64_t seed, UploadRetry retry = {}) {
    const UploadPlan plan = server_.PlanUpload("a", seed, 128);
    v1::UploadAdapterHeader header = plan.messages[0].header();
    header.set_replace(true);
    if (!retry.wait) {
      retry.wait = [this](Duration delay) {
        waits_.push_back(delay);
        std::this_thread::sleep_for(
            std::min<Duration>(delay, std::chrono::milliseconds(100)));
      };
    }
    const Connection connection = Connect(proxy_.address());
    return UploadAdapter(connection.adapters.get(), header, plan.Bytes(),
                         nullptr, &response_, retry);
  }

  TestServer server_;
  CuttingProxy proxy_{server_.address()};
  std::vector<Duration> waits_;
  v1::UploadAdapterResponse response_;
};

TEST_F(AdapterUploadTest, InOneGo) {
  EXPECT_TRUE(Upload(1).ok());
  EXPECT_TRUE(response_.created());
  EXPECT_TRUE(waits_.empty());
}

TEST_F(AdapterUploadTest, GoesOnAfterBreaks) {
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", static_cast<unsigned long>(seed));
  std::mt19937_64 random(seed);
  const size_t size = server_.PlanUpload("a", 0, 128).Bytes().size();
  for (uint64_t round = 1; round <= 8; ++round) {
    v1::UploadAdapterResponse expected;
    ASSERT_TRUE(
        server_.Send(server_.PlanUpload("in-one-go", round, 128), &expected)
            .ok());
    ASSERT_TRUE(DeleteAdapter(&server_, "in-one-go").ok());
    proxy_.CutAfter(static_cast<int64_t>(1 + random() % size));
    const grpc::Status status = Upload(round);
    ASSERT_TRUE(status.ok()) << round << ": " << status.error_message();
    EXPECT_EQ(response_.adapter().digest(), expected.adapter().digest());
  }
  EXPECT_EQ(proxy_.cuts(), 8);
  EXPECT_TRUE(NothingIsStaged(&server_));
}

TEST_F(AdapterUploadTest, GivesUpInTheEnd) {
  server_.app().edge()->draining = true;
  const grpc::Status status = Upload(1, {.max_failures = 3});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(status), "DRAINING");
  ASSERT_EQ(waits_.size(), 3u);
  EXPECT_GE(waits_[0], std::chrono::seconds(1)) << "as the server asks";
}

TEST_F(AdapterUploadTest, ARefusalIsFinal) {
  ASSERT_TRUE(Upload(1).ok());
  UploadPlan plan = server_.PlanUpload("a", 2);
  const Connection connection = Connect(server_.address());
  const grpc::Status status =
      UploadAdapter(connection.adapters.get(), plan.messages[0].header(),
                    plan.Bytes(), nullptr, &response_);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(waits_.empty());
}

TEST_F(AdapterUploadTest, IdsAreRandomAndValid) {
  const std::string id = RandomUploadId();
  EXPECT_EQ(id.size(), 32u);
  EXPECT_NE(id, RandomUploadId());
}

}  // namespace
}  // namespace descant::cli
