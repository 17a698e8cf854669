// An engine that hangs, as clients and probes see it.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;

constexpr char kServing = 1;
constexpr char kNotServing = 2;

// Health is answered by gRPC itself; a hand-made Check: {service: name}, and
// its answer {status: n}.
char HealthOf(TestServer* server, const std::string& name) {
  const std::string request =
      name.empty()
          ? ""
          : absl::StrCat("\x0a", std::string(1, char(name.size())), name);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const grpc::Slice slice(request);
  const grpc::ByteBuffer buffer(&slice, 1);
  grpc::GenericStub stub(server->channel());
  const auto call = stub.PrepareUnaryCall(
      &context, "/grpc.health.v1.Health/Check", buffer, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  std::vector<grpc::Slice> slices;
  if (!status.ok() || !response.Dump(&slices).ok() || slices.empty() ||
      slices[0].size() < 2) {
    return 0;
  }
  return static_cast<char>(slices[0].begin()[1]);
}

v1::GenerateRequest LongRequest(int max_tokens) {
  v1::GenerateRequest request;
  for (int i = 0; i < 10; ++i) request.mutable_token_ids()->add_ids(3 + i);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

class WatchdogTest : public ::testing::Test {
 protected:
  WatchdogTest() : server_(Options()) {}
  ~WatchdogTest() override { hung_ = false; }

  TestServerOptions Options() {
    TestServerOptions options;
    options.engine_stall_limit = std::chrono::milliseconds(1500);
    options.on_step = [this](const Batch&) {
      while (hung_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    return options;
  }

  // What the process does each second, until the liveness is `wanted`.
  bool Becomes(char wanted) {
    for (int i = 0; i < 1000; ++i) {
      server_.app().KeepHouse();
      if (HealthOf(&server_, "liveness") == wanted) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  // In a thread: a call, and how it ended.
  std::thread Generate(grpc::Status* status) {
    return std::thread([this, status] {
      grpc::ClientContext context;
      v1::GenerateResponse response;
      *status =
          server_.generation().Generate(&context, LongRequest(400), &response);
    });
  }
  std::thread Stream(grpc::Status* status) {
    return std::thread([this, status] {
      grpc::ClientContext context;
      v1::GenerateStreamRequest request;
      *request.mutable_request() = LongRequest(400);
      v1::GenerateStreamResponse response;
      auto reader = server_.generation().GenerateStream(&context, request);
      while (reader->Read(&response)) {
        ++streamed_;
      }
      *status = reader->Finish();
    });
  }

  std::atomic<bool> hung_{false};
  std::atomic<int> streamed_{0};
  TestServer server_;
};

TEST_F(WatchdogTest, AHungEngineIsNotAliveAndAnswersWhoWaits) {
  std::vector<grpc::Status> ends(4);
  std::vector<std::thread> calls;
  calls.push_back(Stream(&ends[0]));
  calls.push_back(Stream(&ends[1]));
  calls.push_back(Generate(&ends[2]));
  calls.push_back(Generate(&ends[3]));
  while (streamed_ < 6) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  hung_ = true;
  ASSERT_TRUE(Becomes(kNotServing));
  EXPECT_FALSE(server_.app().alive());
  for (const char* name : {"", "readiness", "descant.v1.GenerationService"}) {
    EXPECT_EQ(HealthOf(&server_, name), kNotServing) << name;
  }
  for (std::thread& call : calls) call.join();
  for (const grpc::Status& end : ends) {
    EXPECT_EQ(end.error_code(), StatusCode::UNAVAILABLE);
    EXPECT_EQ(ReasonIn(end), "ENGINE_STALLED");
    EXPECT_TRUE(HasRetryInfo(end));
  }
  grpc::Status late;
  Generate(&late).join();
  EXPECT_EQ(late.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(late), "ENGINE_STALLED");

  hung_ = false;
  ASSERT_TRUE(Becomes(kServing));
  EXPECT_TRUE(server_.app().alive());
  EXPECT_EQ(HealthOf(&server_, "readiness"), kServing);
  EXPECT_EQ(server_.Tokens("", 20).size(), 20u);
}

TEST_F(WatchdogTest, IdleAndBusyAreHealthy) {
  for (int i = 0; i < 200; ++i) {
    server_.app().KeepHouse();
    ASSERT_EQ(HealthOf(&server_, "liveness"), kServing) << "idle";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::vector<grpc::Status> ends(3);
  std::vector<std::thread> calls;
  calls.reserve(ends.size());
  for (grpc::Status& end : ends) calls.push_back(Generate(&end));
  for (int i = 0; i < 100; ++i) {
    server_.app().KeepHouse();
    ASSERT_EQ(HealthOf(&server_, "liveness"), kServing) << "busy";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (std::thread& call : calls) call.join();
  for (const grpc::Status& end : ends) {
    EXPECT_TRUE(end.ok()) << end.error_message();
  }
}

}  // namespace
}  // namespace descant
