// Calls that want too much, at the wrong time, or leave in the middle: rows 55
// to 82 of tests/BAD_INPUTS.md that need a server of their own.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/server/neighbour.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;

v1::GenerateRequest Request(int max_tokens, const std::string& adapter = "") {
  v1::GenerateRequest request;
  for (int i = 0; i < 10; ++i) request.mutable_token_ids()->add_ids(3 + i);
  if (!adapter.empty()) request.set_adapter_id(adapter);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

grpc::Status Generate(
    TestServer* server, const v1::GenerateRequest& request,
    v1::GenerateResponse* response = nullptr,
    std::chrono::milliseconds timeout = std::chrono::minutes(2)) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  v1::GenerateResponse unused;
  return server->generation().Generate(
      &context, request, response == nullptr ? &unused : response);
}

// The bytes as the message of a unary call.
grpc::Status GenerateBytes(TestServer* server, const std::string& bytes) {
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer buffer(&slice, 1);
  grpc::GenericStub stub(server->channel());
  const auto call = stub.PrepareUnaryCall(
      &context, "/descant.v1.GenerationService/Generate", buffer, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

v1::GetStatsResponse Stats(TestServer* server) {
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server->admin().GetStats(&context, {}, &stats).ok());
  return stats;
}

template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool BecomesIdle(TestServer* server) {
  return Eventually([server] {
    const v1::GetStatsResponse stats = Stats(server);
    return stats.running_requests() + stats.waiting_requests() +
                   stats.kv_blocks_used() ==
               0 &&
           server->app().edge()->memory->held() == 0;
  });
}

// Steps that a test can hold and count.
class Steps {
 public:
  std::function<void(const Batch&)> Hook() {
    return [this](const Batch&) {
      ++count_;
      while (held_) {
        waiting_ = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      waiting_ = false;
    };
  }
  // Returns while a step is under way, which waits for Release.
  void Hold() {
    held_ = true;
    ASSERT_TRUE(Eventually([this] { return waiting_.load(); }));
  }
  void HoldNext() { held_ = true; }
  void Release() { held_ = false; }
  int count() const { return count_; }

 private:
  std::atomic<int> count_{0};
  std::atomic<bool> held_{false};
  std::atomic<bool> waiting_{false};
};

TEST(HostileCallsTest, AnAdapterThatLoadsIsWaitedForUntilTheDeadline) {
  // Row 55.
  std::atomic<bool> slow{false};
  TestServerOptions options;
  options.on_pack = [&slow](const Adapter& adapter) {
    while (slow && adapter.name == "cold") {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  TestServer server(options);
  ASSERT_TRUE(server.Upload("cold", 1).ok());
  ASSERT_TRUE(server.Upload("neighbour", 2).ok());
  {
    const Neighbour neighbour(&server, "neighbour",
                              server.Tokens("neighbour", 20));
    slow = true;
    const grpc::Status status = Generate(&server, Request(4, "cold"), nullptr,
                                         std::chrono::milliseconds(200));
    EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED);
    slow = false;
    EXPECT_TRUE(Generate(&server, Request(4, "cold")).ok());
  }
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id("cold");
  v1::DeleteAdapterResponse response;
  ASSERT_TRUE(
      server.adapters().DeleteAdapter(&context, request, &response).ok());
  EXPECT_EQ(Generate(&server, Request(4, "cold")).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_TRUE(BecomesIdle(&server));
}

TEST(HostileCallsTest, TheSameIdAtTheSameTimeIsTwoRequests) {  // row 69
  Steps steps;
  TestServer server({.on_step = steps.Hook()});
  steps.HoldNext();
  v1::GenerateRequest request = Request(8);
  request.set_client_request_id("the same");
  std::vector<v1::GenerateResponse> responses(2);
  std::vector<std::thread> threads;
  for (v1::GenerateResponse& response : responses) {
    threads.emplace_back(
        [&] { EXPECT_TRUE(Generate(&server, request, &response).ok()); });
  }
  EXPECT_TRUE(Eventually([&] {
    return server.app().edge()->active_calls == 2 && steps.count() > 0;
  }));
  steps.Release();
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(responses[0].request_id(), responses[1].request_id());
  EXPECT_EQ(responses[0].client_request_id(), "the same");
  EXPECT_EQ(responses[0].choices(0).token_ids(0),
            responses[1].choices(0).token_ids(0));
}

TEST(HostileCallsTest, WithoutADeadlineItIsTheServers) {  // row 70
  TestServerOptions options;
  options.max_model_len = 8192;
  options.request_timeout = std::chrono::milliseconds(300);
  options.on_step = [](const Batch&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  };
  TestServer server(options);
  grpc::ClientContext context;  // none
  v1::GenerateResponse response;
  const grpc::Status status =
      server.generation().Generate(&context, Request(8000), &response);
  EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(ReasonIn(status), "DEADLINE_EXCEEDED");
  EXPECT_TRUE(BecomesIdle(&server));
}

// gRPC counts in milliseconds and rounds up: 10 past is past on any clock.
TEST(HostileCallsTest, DeadOnArrivalIsNeverRun) {  // row 70
  TestServer server;
  for (const auto late :
       {std::chrono::milliseconds(-3600000), std::chrono::milliseconds(-10)}) {
    EXPECT_EQ(Generate(&server, Request(400), nullptr, late).error_code(),
              StatusCode::DEADLINE_EXCEEDED);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(Stats(&server).steps(), 0u);
}

// gRPC and Protobuf answer these before our code; what they say is pinned.
TEST(HostileCallsTest, MessagesThatNest) {  // row 71
  TestServer server;
  const auto expected = server.Tokens("", 20);
  const Neighbour neighbour(&server, "", expected);
  // Unknown groups (field 1000) inside each other.
  const std::string group("\xc3\x3e", 2);
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += group;
  EXPECT_EQ(GenerateBytes(&server, nested).error_code(),
            StatusCode::UNIMPLEMENTED);
  // A length that is longer than the message.
  EXPECT_EQ(GenerateBytes(&server, "\x12\x7f").error_code(),
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(GenerateBytes(&server, std::string(5 << 20, 'x')).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST(HostileCallsTest, PromptTokensThatWaitAreBounded) {  // row 73
  Steps steps;
  TestServerOptions options;
  options.max_waiting_tokens = 1000;
  options.on_step = steps.Hook();
  TestServer server(options);
  steps.HoldNext();
  v1::GenerateRequest request = Request(2);
  for (int i = 0; i < 390; ++i) request.mutable_token_ids()->add_ids(7);
  std::atomic<int> ok{0};
  std::vector<std::thread> threads;
  // The first counts until its step is done.
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] { ok += Generate(&server, request).ok(); });
    EXPECT_TRUE(Eventually([&] {
      return steps.count() > 0 && Stats(&server).waiting_requests() == i;
    }));
  }
  const grpc::Status refused = Generate(&server, request);
  EXPECT_EQ(refused.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(refused), "QUEUE_FULL");
  EXPECT_TRUE(HasRetryInfo(refused));
  steps.Release();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ok, 2);
  EXPECT_TRUE(BecomesIdle(&server));
}

TEST(HostileCallsTest, MemoryIsAskedForBeforeItIsTaken) {  // row 73
  Steps steps;
  TestServerOptions options;
  options.request_memory = 2 << 20;
  options.on_step = steps.Hook();
  TestServer server(options);
  // 16 answers of 400 tokens with 20 alternatives each: some 14 MB.
  v1::GenerateRequest large = Request(400);
  large.set_n(16);
  large.mutable_output()->set_top_logprobs(20);
  const grpc::Status never = Generate(&server, large);
  EXPECT_EQ(never.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonIn(never), "REQUEST_TOO_LARGE");
  EXPECT_TRUE(BecomesIdle(&server));
  // One answer, some 0.9 MB: two of them may.
  large.set_n(1);
  steps.HoldNext();
  std::atomic<int> ok{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] { ok += Generate(&server, large).ok(); });
  }
  EXPECT_TRUE(Eventually([&] {
    return server.app().edge()->memory->held() > 1600000 && steps.count() > 0;
  }));
  const grpc::Status refused = Generate(&server, large);
  EXPECT_EQ(refused.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(refused), "MEMORY_FULL");
  EXPECT_TRUE(HasRetryInfo(refused));
  v1::TokenizeRequest tokenize;
  tokenize.set_text(std::string(30000, 'x'));
  grpc::ClientContext context;
  v1::TokenizeResponse tokens;
  EXPECT_EQ(ReasonIn(server.generation().Tokenize(&context, tokenize, &tokens)),
            "MEMORY_FULL");
  steps.Release();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ok, 2);
  EXPECT_TRUE(BecomesIdle(&server));
  EXPECT_TRUE(Generate(&server, large).ok());
}

// Row 75: once the server knows, no step works for a client that went.
TEST(HostileCallsTest, ACancelledCallGetsNoFurtherStep) {
  Steps steps;
  TestServerOptions options;
  options.max_model_len = 8192;
  options.on_step = steps.Hook();
  TestServer server(options);
  for (int i = 0; i < 5; ++i) {
    v1::GenerateStreamRequest stream;
    *stream.mutable_request() = Request(8000);
    grpc::ClientContext context;
    const auto reader = server.generation().GenerateStream(&context, stream);
    v1::GenerateStreamResponse part;
    ASSERT_TRUE(reader->Read(&part));
    steps.Hold();
    const int before = steps.count();
    context.TryCancel();
    while (reader->Read(&part)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
    // For the frame to arrive.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    steps.Release();
    ASSERT_TRUE(BecomesIdle(&server));
    EXPECT_EQ(steps.count(), before);
  }
}

// Row 78: a request can't name a tenant, because there is no such field.
TEST(HostileCallsTest, NoRequestOfATenantNamesATenant) {
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(),
        v1::GetAdapterRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const auto* input = file->service(s)->method(m)->input_type();
        for (int f = 0; f < input->field_count(); ++f) {
          EXPECT_NE(input->field(f)->name(), "tenant") << input->full_name();
        }
      }
    }
  }
}

TEST(HostileCallsTest, DeletedWhileAHundredStreamsUseIt) {  // row 80
  constexpr int kStreams = 100;
  Steps steps;
  TestServerOptions options;
  options.max_waiting = 200;
  options.on_step = steps.Hook();
  TestServer server(options);
  ASSERT_TRUE(server.Upload("gone", 1).ok());
  v1::GenerateResponse alone;
  ASSERT_TRUE(Generate(&server, Request(30, "gone"), &alone).ok());
  steps.HoldNext();
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kStreams; ++i) {
    threads.emplace_back([&] {
      grpc::ClientContext context;
      v1::GenerateStreamRequest stream;
      *stream.mutable_request() = Request(30, "gone");
      const auto reader = server.generation().GenerateStream(&context, stream);
      v1::GenerateStreamResponse part;
      std::vector<int32_t> tokens;
      std::string digest;
      while (reader->Read(&part)) {
        tokens.insert(tokens.end(), part.delta().token_ids().begin(),
                      part.delta().token_ids().end());
        if (!part.adapter_digest().empty()) digest = part.adapter_digest();
      }
      const auto& expected = alone.choices(0).token_ids();
      right += reader->Finish().ok() && digest == alone.adapter_digest() &&
               tokens == std::vector<int32_t>(expected.begin(), expected.end());
    });
  }
  EXPECT_TRUE(Eventually([&] {
    return server.app().edge()->active_calls == kStreams && steps.count() > 0;
  }));
  EXPECT_TRUE(Eventually(
      [&] { return server.app().edge()->front_pool->queued() == 0; }));
  // For those that the pool has in hand.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id("gone");
  v1::DeleteAdapterResponse response;
  EXPECT_TRUE(
      server.adapters().DeleteAdapter(&context, request, &response).ok());
  EXPECT_EQ(Generate(&server, Request(4, "gone")).error_code(),
            StatusCode::NOT_FOUND);
  steps.Release();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, kStreams);
  EXPECT_TRUE(BecomesIdle(&server));
}

// Streams of one connection: the limit's own number of calls are all taken.
TEST(HostileCallsTest, StreamsOfAConnectionAreBounded) {
  Steps steps;
  TestServerOptions options;
  options.max_waiting = 4000;
  options.on_step = steps.Hook();
  TestServer server(options);
  steps.HoldNext();
  constexpr int kLimit = limits::kMaxConcurrentStreams;
  constexpr int kMore = 20;
  const auto channel = server.NewChannel(0);
  const auto stub = v1::GenerationService::NewStub(channel);
  std::atomic<int> ok{0};
  v1::GenerateStreamRequest stream;
  *stream.mutable_request() = Request(2);
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> reader;
  };
  const auto finish = [&ok](Call* call) {
    v1::GenerateStreamResponse part;
    while (call->reader->Read(&part)) {
    }
    ok += call->reader->Finish().ok();
  };
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < kLimit; ++i) {
    calls.push_back(std::make_unique<Call>());
    calls.back()->reader = stub->GenerateStream(&calls.back()->context, stream);
  }
  // These wait in the client, before they begin.
  std::vector<std::thread> more;
  for (int i = 0; i < kMore; ++i) {
    more.emplace_back([&] {
      Call call;
      call.reader = stub->GenerateStream(&call.context, stream);
      finish(&call);
    });
  }
  auto& active = server.app().edge()->active_calls;
  EXPECT_TRUE(Eventually([&] { return active == kLimit; })) << active;
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(active, kLimit);
  steps.Release();
  for (const auto& call : calls) finish(call.get());
  for (std::thread& thread : more) thread.join();
  EXPECT_EQ(ok, kLimit + kMore);
  EXPECT_TRUE(BecomesIdle(&server));
}

}  // namespace
}  // namespace descant
