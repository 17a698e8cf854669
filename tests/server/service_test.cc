// The services over real gRPC with a real engine: answers, streams, pages,
// cancellation, slow clients, overload, drain.
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

v1::GenerateRequest LongRequest(int max_tokens) {
  v1::GenerateRequest request;
  for (int i = 0; i < 10; ++i) request.mutable_token_ids()->add_ids(3 + i);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

std::function<void(const Batch&)> SlowSteps() {
  return [](const Batch&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  };
}

// Waits until the engine holds nothing; false after 5 s.
bool BecomesIdle(TestServer* server) {
  for (int i = 0; i < 500; ++i) {
    grpc::ClientContext context;
    v1::GetStatsResponse stats;
    if (!server->admin().GetStats(&context, {}, &stats).ok()) return false;
    if (stats.running_requests() == 0 && stats.waiting_requests() == 0 &&
        stats.kv_blocks_used() == 0) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(ServiceTest, AnswersSayWhatTheyAre) {
  TestServer server;
  v1::UploadAdapterResponse uploaded;
  ASSERT_TRUE(server.Send(server.PlanUpload("alpha", 1), &uploaded).ok());
  v1::GenerateRequest request = LongRequest(12);
  request.set_adapter_id("alpha");
  request.set_client_request_id("mine");
  request.mutable_output()->set_logprobs(true);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(server.generation().Generate(&context, request, &response).ok());
  ASSERT_EQ(response.choices_size(), 1);
  const v1::Choice& choice = response.choices(0);
  EXPECT_EQ(choice.token_ids_size(), 12);
  EXPECT_EQ(choice.logprobs_size(), 12);
  EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.adapter_digest(), uploaded.adapter().digest());
  EXPECT_EQ(response.usage().prompt_tokens(), 10u);
  EXPECT_EQ(response.usage().completion_tokens(), 12u);
  EXPECT_EQ(response.client_request_id(), "mine");
  EXPECT_NE(response.request_id(), "");
  EXPECT_TRUE(response.timings().has_prefill());
  EXPECT_NE(server.Tokens("alpha", 12), server.Tokens("", 12));
}

TEST(ServiceTest, AStreamIsTheAnswerInParts) {
  TestServer server;
  const v1::GenerateRequest request = LongRequest(100);
  grpc::ClientContext unary_context;
  v1::GenerateResponse whole;
  ASSERT_TRUE(
      server.generation().Generate(&unary_context, request, &whole).ok());

  v1::GenerateStreamRequest stream;
  *stream.mutable_request() = request;
  grpc::ClientContext context;
  const auto reader = server.generation().GenerateStream(&context, stream);
  v1::GenerateStreamResponse part;
  std::string text;
  std::vector<int32_t> tokens;
  int finishes = 0;
  bool first = true;
  while (reader->Read(&part)) {
    EXPECT_EQ(finishes, 0) << "nothing follows the last message";
    if (first) {
      EXPECT_NE(part.request_id(), "");
      first = false;
    }
    text += part.delta().text();
    tokens.insert(tokens.end(), part.delta().token_ids().begin(),
                  part.delta().token_ids().end());
    if (part.delta().finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      ++finishes;
      EXPECT_EQ(part.usage().completion_tokens(), 100u);
      EXPECT_TRUE(part.has_timings());
    }
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(finishes, 1);
  EXPECT_EQ(text, whole.choices(0).text());
  EXPECT_THAT(tokens,
              ::testing::ElementsAreArray(whole.choices(0).token_ids()));
}

TEST(ServiceTest, ManyStreamsAtOnceKeepTheirTokens) {
  TestServer server;
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(server.Upload(absl::StrCat("a", i), 10 + i).ok());
  }
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < 6; ++i) {
    alone.push_back(server.Tokens(absl::StrCat("a", i), 50));
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 24; ++i) {
    threads.emplace_back([&, i] {
      if (server.Tokens(absl::StrCat("a", i % 6), 50) != alone[i % 6]) ++wrong;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ServiceTest, CancelledCallsFreeEverything) {
  TestServer server({.max_model_len = 8192, .on_step = SlowSteps()});
  for (int i = 0; i < 8; ++i) {
    v1::GenerateStreamRequest stream;
    *stream.mutable_request() = LongRequest(8000);
    grpc::ClientContext context;
    const auto reader = server.generation().GenerateStream(&context, stream);
    v1::GenerateStreamResponse part;
    EXPECT_TRUE(reader->Read(&part));
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  }
  EXPECT_TRUE(BecomesIdle(&server));
}

TEST(ServiceTest, DeadlinesEndGenerations) {
  TestServer server({.max_model_len = 8192, .on_step = SlowSteps()});
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(200));
  v1::GenerateResponse response;
  EXPECT_EQ(server.generation()
                .Generate(&context, LongRequest(8000), &response)
                .error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(BecomesIdle(&server));
}

// Row 74.
TEST(ServiceTest, AReaderThatStopsIsEndedAndFreed) {
  TestServer server({.max_model_len = 32768,
                     .stream_stall_timeout = std::chrono::milliseconds(500)});
  v1::GenerateStreamRequest stream;
  *stream.mutable_request() = LongRequest(20000);
  // Far more bytes than sockets and the transport take in without a reader.
  stream.mutable_request()->mutable_output()->set_top_logprobs(20);
  const auto channel = server.NewChannel(4096);
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, stream);
  EXPECT_TRUE(BecomesIdle(&server));
  v1::GenerateStreamResponse part;
  bool finished = false;
  while (reader->Read(&part)) {
    finished |= part.delta().finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
  }
  const grpc::Status status = reader->Finish();
  EXPECT_FALSE(finished);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED)
      << status.error_message();
  EXPECT_EQ(ReasonIn(status), "STREAM_STALLED");
}

// Row 11.
TEST(ServiceTest, AnUploadThatStopsIsEnded) {
  TestServer server({.upload_idle_timeout = std::chrono::milliseconds(300)});
  const UploadPlan plan = server.PlanUpload("slow", 1);
  grpc::ClientContext context;
  v1::UploadAdapterResponse response;
  const auto writer = server.adapters().UploadAdapter(&context, &response);
  writer->Write(plan.messages[0]);
  const grpc::Status status = writer->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(ReasonIn(status), "UPLOAD_IDLE");
}

// Row 13.
TEST(ServiceTest, StoredAdaptersAreCapped) {
  TestServer server({.max_stored_adapters = 2});
  EXPECT_TRUE(server.Upload("one", 1).ok());
  EXPECT_TRUE(server.Upload("two", 2).ok());
  const grpc::Status status = server.Upload("three", 3);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(status), "ADAPTER_QUOTA");
  // A name that is there may still be replaced.
  UploadPlan plan = server.PlanUpload("two", 3);
  plan.header()->set_replace(true);
  EXPECT_TRUE(server.Send(plan).ok());
}

// Row 73.
TEST(ServiceTest, AFullQueueIsAnsweredAtOnce) {
  TestServer server(
      {.max_model_len = 8192, .max_waiting = 2, .on_step = SlowSteps()});
  std::vector<std::thread> threads;
  std::atomic<int> refused{0};
  std::atomic<int> other{0};
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  for (int i = 0; i < 40; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
  }
  for (int i = 0; i < 40; ++i) {
    threads.emplace_back([&, i] {
      v1::GenerateResponse response;
      const grpc::Status status = server.generation().Generate(
          contexts[i].get(), LongRequest(4000), &response);
      if (status.error_code() == StatusCode::UNAVAILABLE) {
        EXPECT_EQ(ReasonIn(status), "QUEUE_FULL");
        ++refused;
      } else if (status.error_code() != StatusCode::CANCELLED) {
        ++other;
      }
    });
  }
  for (int i = 0; i < 500 && refused == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (auto& context : contexts) context->TryCancel();
  for (auto& thread : threads) thread.join();
  EXPECT_GT(refused, 0);
  EXPECT_EQ(other, 0);
  EXPECT_TRUE(BecomesIdle(&server));
}

// Rather than after its deadline.
TEST(ServiceTest, WhatWouldWaitTooLongIsAnsweredAtOnce) {
  TestServer server({.max_model_len = 8192, .on_step = SlowSteps()});
  // As many as run at once, and some that wait for them.
  constexpr int kOthers = 20;
  std::vector<std::thread> threads;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  for (int i = 0; i < kOthers; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    threads.emplace_back([&, context = contexts.back().get()] {
      v1::GenerateResponse response;
      server.generation().Generate(context, LongRequest(8000), &response);
    });
  }
  grpc::Status status;
  const auto begin = std::chrono::steady_clock::now();
  const auto tries_end = begin + std::chrono::seconds(10);
  std::chrono::steady_clock::duration took{};
  do {
    grpc::ClientContext context;
    const auto sent = std::chrono::steady_clock::now();
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(300));
    v1::GenerateResponse response;
    status = server.generation().Generate(&context, LongRequest(5), &response);
    took = std::chrono::steady_clock::now() - sent;
  } while (status.error_code() != StatusCode::UNAVAILABLE &&
           std::chrono::steady_clock::now() < tries_end);
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(status), "DEADLINE_UNREACHABLE");
  EXPECT_LT(took, std::chrono::milliseconds(300));
  for (auto& context : contexts) context->TryCancel();
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(BecomesIdle(&server));
  // With nobody waiting it is taken again.
  grpc::ClientContext context;
  v1::GenerateResponse response;
  EXPECT_TRUE(
      server.generation().Generate(&context, LongRequest(5), &response).ok());
}

TEST(ServiceTest, DrainFinishesWhatWasAccepted) {
  TestServer server({.max_model_len = 8192, .on_step = SlowSteps()});
  std::vector<std::thread> threads;
  std::atomic<int> complete{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back(
        [&] { complete += server.Tokens("", 200).size() == 200; });
  }
  grpc::ClientContext stats_context;
  v1::GetStatsResponse stats;
  for (int i = 0; i < 500 && stats.running_requests() < 8; ++i) {
    grpc::ClientContext context;
    ASSERT_TRUE(server.admin().GetStats(&context, {}, &stats).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  server.Drain(std::chrono::seconds(20));
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(complete, 8);
}

// Row 19, for generations too.
TEST(ServiceTest, NothingIsAdmittedWhileDraining) {
  TestServer server;
  server.app().edge()->draining = true;
  const grpc::Status upload = server.Upload("late", 1);
  EXPECT_EQ(upload.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonIn(upload), "DRAINING");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  EXPECT_EQ(server.generation()
                .Generate(&context, LongRequest(1), &response)
                .error_code(),
            StatusCode::UNAVAILABLE);
}

TEST(ServiceTest, ListsInPages) {
  TestServer server;
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(server.Upload(absl::StrCat("p", i), 1).ok());
  }
  std::vector<std::string> names;
  std::string token;
  do {
    v1::ListAdaptersRequest request;
    request.set_page_size(3);
    request.set_page_token(token);
    grpc::ClientContext context;
    v1::ListAdaptersResponse page;
    ASSERT_TRUE(server.adapters().ListAdapters(&context, request, &page).ok());
    EXPECT_EQ(page.total_size(), 7u);
    EXPECT_LE(page.adapters_size(), 3);
    for (const auto& adapter : page.adapters()) {
      names.push_back(adapter.name());
      EXPECT_EQ(adapter.state(), v1::ADAPTER_STATE_READY);
      EXPECT_THAT(adapter.target_modules(), ::testing::ElementsAre("q_proj"));
      EXPECT_GT(adapter.parameter_count(), 0u);
      EXPECT_GT(adapter.create_time().seconds(), 1700000000);
    }
    token = page.next_page_token();
  } while (!token.empty());
  EXPECT_THAT(names,
              ::testing::ElementsAre("p0", "p1", "p2", "p3", "p4", "p5", "p6"));
}

TEST(ServiceTest, PinnedVersionsAndDeletion) {
  TestServer server;
  v1::UploadAdapterResponse uploaded;
  ASSERT_TRUE(server.Send(server.PlanUpload("v", 1), &uploaded).ok());
  const std::string pinned = "v@" + uploaded.adapter().digest();
  EXPECT_EQ(server.Tokens(pinned, 8), server.Tokens("v", 8));
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(pinned);
  v1::DeleteAdapterResponse response;
  ASSERT_TRUE(
      server.adapters().DeleteAdapter(&context, request, &response).ok());
  EXPECT_EQ(response.digest(), uploaded.adapter().digest());
  EXPECT_TRUE(server.Tokens("v", 8).empty());
}

TEST(ServiceTest, TokenizesBothWays) {
  TestServer server;
  v1::TokenizeRequest request;
  request.set_text("Hello there");
  grpc::ClientContext context;
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(server.generation().Tokenize(&context, request, &tokens).ok());
  ASSERT_GT(tokens.token_ids_size(), 0);
  EXPECT_EQ(tokens.pieces_size(), tokens.token_ids_size());
  v1::DetokenizeRequest back;
  for (const int32_t id : tokens.token_ids()) back.add_token_ids(id);
  grpc::ClientContext back_context;
  v1::DetokenizeResponse text;
  ASSERT_TRUE(server.generation().Detokenize(&back_context, back, &text).ok());
  EXPECT_EQ(text.text(), "Hello there");
}

TEST(ServiceTest, GetModelSaysTheLimits) {
  TestServer server;
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(server.generation().GetModel(&context, {}, &model).ok());
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.generation_limits().max_model_len(), 512);
  EXPECT_THAT(model.base_fingerprint(), ::testing::StartsWith("sha256:"));
  EXPECT_EQ(model.target_modules_size(), 7);
  EXPECT_GT(model.peft_features_size(), 0);
}

// Health is answered by gRPC itself; a hand-made Check: {service: name}.
grpc::Status CheckHealth(TestServer* server, const std::string& name,
                         std::string* answer) {
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
  if (status.ok() && response.Dump(&slices).ok()) {
    answer->clear();
    for (const auto& part : slices) {
      answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
  }
  return status;
}

TEST(ServiceTest, HealthHasItsNames) {
  TestServer server;
  std::string answer;
  for (const char* name :
       {"", "liveness", "readiness", "descant.v1.GenerationService",
        "descant.v1.AdapterService"}) {
    ASSERT_TRUE(CheckHealth(&server, name, &answer).ok()) << name;
    EXPECT_EQ(answer, std::string("\x08\x01")) << name;  // SERVING
  }
  EXPECT_EQ(CheckHealth(&server, "unknown", &answer).error_code(),
            StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace descant
