// Bad inputs over real gRPC: each gets its documented code and a reason, and
// the tokens of a neighbour stay what they were. Row numbers are those of
// tests/BAD_INPUTS.md; those of uploads are in bad_uploads_test.cc.
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/neighbour.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

using grpc::StatusCode;

// One server for all cases, with one good adapter whose tokens are known.
class BadInputsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new TestServer;
    ASSERT_TRUE(server_->Upload("neighbour", 7).ok());
    expected_ = new std::vector<int32_t>(server_->Tokens("neighbour", 40));
    ASSERT_EQ(expected_->size(), 40u);
  }
  static void TearDownTestSuite() {
    delete server_;
    delete expected_;
  }

  void SetUp() override {
    neighbour_.emplace(server_, "neighbour", *expected_);
  }
  void TearDown() override {
    neighbour_.reset();
    EXPECT_EQ(server_->Tokens("neighbour", 40), *expected_);
  }

  static void Expect(const std::string& what, const grpc::Status& status,
                     StatusCode code) {
    EXPECT_EQ(status.error_code(), code)
        << what << ": " << status.error_message();
    if (code == StatusCode::OK) return;
    EXPECT_NE(ReasonIn(status), "") << what;
  }

  static grpc::Status Generate(const v1::GenerateRequest& request,
                               v1::GenerateResponse* response = nullptr) {
    grpc::ClientContext context;
    v1::GenerateResponse unused;
    return server_->generation().Generate(
        &context, request, response == nullptr ? &unused : response);
  }

  static v1::GenerateRequest Request() {
    v1::GenerateRequest request;
    request.set_text("Hello");
    request.mutable_stopping()->set_max_tokens(4);
    return request;
  }

  std::optional<Neighbour> neighbour_;
  static TestServer* server_;
  static std::vector<int32_t>* expected_;
};

TestServer* BadInputsTest::server_ = nullptr;
std::vector<int32_t>* BadInputsTest::expected_ = nullptr;

TEST_F(BadInputsTest, Adapters) {  // row 55
  const auto status = [&](const std::string& id) {
    v1::GenerateRequest request = Request();
    request.set_adapter_id(id);
    return Generate(request);
  };
  Expect("unknown", status("unknown"), StatusCode::NOT_FOUND);
  Expect("unknown version", status("neighbour@sha256:" + std::string(64, '0')),
         StatusCode::NOT_FOUND);
  for (const char* id : {"", "../x", "neighbour@", "neighbour@sha256:12",
                         "neighbour@md5:00", "@", "a b"}) {
    Expect(absl::StrCat("id ", id), status(id), StatusCode::INVALID_ARGUMENT);
  }
  Expect("known", status("neighbour"), StatusCode::OK);
}

TEST_F(BadInputsTest, Prompts) {  // rows 56 to 60
  v1::GenerateRequest request = Request();
  const auto expect = [&](const std::string& what, StatusCode code) {
    Expect(what, Generate(request), code);
  };
  request.clear_prompt();
  expect("no prompt", StatusCode::INVALID_ARGUMENT);
  request.set_text("");
  expect("empty text", StatusCode::INVALID_ARGUMENT);
  request.set_text_bytes("");
  expect("empty bytes", StatusCode::INVALID_ARGUMENT);
  request.mutable_token_ids();
  expect("no tokens", StatusCode::INVALID_ARGUMENT);
  request.mutable_messages();
  expect("no messages", StatusCode::INVALID_ARGUMENT);
  for (const std::string& bytes :
       {std::string("\xff"), std::string("a\xc3"), std::string("\xed\xa0\x80"),
        std::string("\xc0\x80"), std::string("a\0b", 3)}) {
    request.set_text_bytes(bytes);
    expect("bytes", StatusCode::INVALID_ARGUMENT);
  }
  for (const char* part : {"a", " ", "\xcc\x81"}) {
    std::string text;
    while (text.size() < 3900000) text += part;
    request.set_text(text);
    const auto start = std::chrono::steady_clock::now();
    expect("3.9 MB", StatusCode::INVALID_ARGUMENT);
    EXPECT_LT(std::chrono::steady_clock::now() - start,
              std::chrono::seconds(2));
  }
  const int vocab = server_->app().edge()->options.model.vocab_size;
  for (const int64_t id :
       {int64_t{-1}, int64_t{vocab}, int64_t{1} << 32, int64_t{1} << 62}) {
    request.mutable_token_ids()->Clear();
    request.mutable_token_ids()->add_ids(id);
    expect(absl::StrCat("token ", id), StatusCode::INVALID_ARGUMENT);
  }
  const auto tokens = [&](int count) {
    request.mutable_token_ids()->Clear();
    for (int i = 0; i < count; ++i) request.mutable_token_ids()->add_ids(5);
  };
  tokens(508);  // the context has 512
  expect("at the limit", StatusCode::OK);
  tokens(509);
  expect("one over", StatusCode::INVALID_ARGUMENT);
  tokens(512);
  request.mutable_stopping()->clear_max_tokens();
  expect("no room", StatusCode::INVALID_ARGUMENT);
  tokens(513);
  expect("prompt over", StatusCode::INVALID_ARGUMENT);
}

TEST_F(BadInputsTest, ExtremesThatAreFine) {  // rows 64, 68, 69, 71
  for (const float temperature : {0.0f, 1e-45f, 1e-5f, 100.0f, 3e38f}) {
    v1::GenerateRequest request = Request();
    request.mutable_sampling()->set_temperature(temperature);
    Expect(absl::StrCat("temperature ", temperature), Generate(request),
           StatusCode::OK);
  }
  for (const uint64_t seed : {uint64_t{0}, ~uint64_t{0}}) {
    v1::GenerateRequest request = Request();
    request.mutable_sampling()->set_seed(seed);
    request.set_client_request_id("the same");
    v1::GenerateResponse first;
    v1::GenerateResponse second;
    Expect("seed", Generate(request, &first), StatusCode::OK);
    Expect("seed", Generate(request, &second), StatusCode::OK);
    EXPECT_EQ(first.seed(), seed);
    EXPECT_EQ(first.choices(0).text(), second.choices(0).text());
    EXPECT_NE(first.request_id(), second.request_id());
    EXPECT_EQ(first.client_request_id(), "the same");
  }
  for (const float penalty : {0.01f, 100.0f}) {
    v1::GenerateRequest request = Request();
    request.set_n(3);
    v1::SamplingOptions* sampling = request.mutable_sampling();
    sampling->set_temperature(1e-45f);
    sampling->set_repetition_penalty(penalty);
    sampling->set_presence_penalty(-2);
    sampling->set_frequency_penalty(2);
    sampling->set_typical_p(1e-45f);
    sampling->add_logit_bias()->set_bias(-INFINITY);
    Expect(absl::StrCat("repetition penalty ", penalty), Generate(request),
           StatusCode::OK);
  }
  v1::GenerateRequest request = Request();
  for (int i = 0; i < 10000; ++i) {
    request.GetReflection()->MutableUnknownFields(&request)->AddVarint(1000 + i,
                                                                       1);
  }
  Expect("unknown fields", Generate(request), StatusCode::OK);
}

TEST_F(BadInputsTest, SamplingOverTheWire) {  // rows 61 to 67
  using R = v1::GenerateRequest;
  const std::vector<std::function<void(R*)>> changes = {
      [](R* r) { r->mutable_stopping()->set_max_tokens(0); },
      [](R* r) { r->mutable_stopping()->set_max_tokens(-1); },
      [](R* r) { r->mutable_stopping()->set_max_tokens(2147483647); },
      [](R* r) { r->mutable_output()->set_top_logprobs(-1); },
      [](R* r) { r->mutable_output()->set_top_logprobs(2147483647); },
      [](R* r) {
        r->mutable_output()->set_top_logprobs(
            server_->app().edge()->options.model.vocab_size);
      },
      [](R* r) { r->mutable_sampling()->set_temperature(-1); },
      [](R* r) { r->mutable_sampling()->set_temperature(NAN); },
      [](R* r) { r->mutable_sampling()->set_temperature(INFINITY); },
      [](R* r) { r->mutable_sampling()->set_top_p(0); },
      [](R* r) { r->mutable_sampling()->set_top_p(NAN); },
      [](R* r) { r->mutable_sampling()->set_top_p(1.1f); },
      [](R* r) { r->mutable_sampling()->set_top_k(-5); },
      [](R* r) { r->mutable_sampling()->set_min_p(2); },
      [](R* r) { r->mutable_stopping()->add_stop_strings(""); },
      [](R* r) {
        r->mutable_stopping()->add_stop_strings(std::string(1 << 20, 's'));
      },
      [](R* r) {
        for (int i = 0; i < 10000; ++i) {
          r->mutable_stopping()->add_stop_strings(absl::StrCat(i));
        }
      },
      [](R* r) { r->set_n(0); },
      [](R* r) { r->set_n(2147483647); },
      [](R* r) {
        r->set_n(3);
        r->set_best_of(2);
      },
      [](R* r) { r->mutable_sampling()->set_repetition_penalty(0); },
      [](R* r) { r->mutable_sampling()->set_repetition_penalty(INFINITY); },
      [](R* r) { r->mutable_sampling()->set_presence_penalty(NAN); },
      [](R* r) { r->mutable_sampling()->set_frequency_penalty(1e38f); },
      [](R* r) { r->mutable_sampling()->set_typical_p(-1); },
      [](R* r) { r->mutable_sampling()->add_logit_bias()->set_bias(NAN); },
      [](R* r) {  // every token
        for (int i = 0; i < 512; ++i) {
          auto* entry = r->mutable_sampling()->add_logit_bias();
          entry->set_token_id(i);
          entry->set_bias(-INFINITY);
        }
      },
      [](R* r) {
        r->mutable_sampling()->add_logit_bias();
        r->mutable_sampling()->add_logit_bias();
      },
      [](R* r) {
        for (int i = 0; i < 200000; ++i) {
          r->mutable_sampling()->add_logit_bias()->set_token_id(i);
        }
      },
      [](R* r) { r->mutable_stopping()->set_min_tokens(-1); },
      [](R* r) { r->mutable_output()->set_prompt_logprobs(21); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    R request = Request();
    changes[i](&request);
    Expect(absl::StrCat("change ", i), Generate(request),
           StatusCode::INVALID_ARGUMENT);
    // The same request, streamed.
    v1::GenerateStreamRequest stream;
    *stream.mutable_request() = request;
    grpc::ClientContext context;
    const auto reader = server_->generation().GenerateStream(&context, stream);
    v1::GenerateStreamResponse part;
    EXPECT_FALSE(reader->Read(&part));
    Expect(absl::StrCat("streamed change ", i), reader->Finish(),
           StatusCode::INVALID_ARGUMENT);
  }
  grpc::ClientContext context;
  const auto reader = server_->generation().GenerateStream(&context, {});
  Expect("stream without a request", reader->Finish(),
         StatusCode::INVALID_ARGUMENT);
}

TEST_F(BadInputsTest, Deadlines) {  // row 70
  // gRPC counts in milliseconds: an answer of many steps is later than that.
  v1::GenerateRequest request = Request();
  request.mutable_stopping()->set_max_tokens(500);
  request.mutable_stopping()->set_ignore_eos(true);
  for (const auto offset : {std::chrono::nanoseconds(std::chrono::hours(-1)),
                            std::chrono::nanoseconds(1)}) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + offset);
    v1::GenerateResponse response;
    EXPECT_EQ(server_->generation()
                  .Generate(&context, request, &response)
                  .error_code(),
              StatusCode::DEADLINE_EXCEEDED);
  }
}

TEST_F(BadInputsTest, Lists) {  // row 81
  const auto list = [&](int size, const std::string& token) {
    v1::ListAdaptersRequest request;
    request.set_page_size(size);
    request.set_page_token(token);
    grpc::ClientContext context;
    v1::ListAdaptersResponse response;
    return server_->adapters().ListAdapters(&context, request, &response);
  };
  Expect("default", list(0, ""), StatusCode::OK);
  Expect("negative", list(-1, ""), StatusCode::INVALID_ARGUMENT);
  Expect("huge", list(2147483647, ""), StatusCode::INVALID_ARGUMENT);
  Expect("forged", list(10, "../../etc"), StatusCode::INVALID_ARGUMENT);
}

TEST_F(BadInputsTest, DeleteTwice) {  // row 80
  ASSERT_TRUE(server_->Upload("gone", 9).ok());
  v1::DeleteAdapterRequest request;
  request.set_adapter_id("gone");
  const auto remove = [&] {
    grpc::ClientContext context;
    v1::DeleteAdapterResponse response;
    return server_->adapters().DeleteAdapter(&context, request, &response);
  };
  Expect("first", remove(), StatusCode::OK);
  Expect("second", remove(), StatusCode::NOT_FOUND);
}

TEST_F(BadInputsTest, Messages) {
  v1::GenerateRequest request = Request();
  auto* message = request.mutable_messages()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  const bool has_chat = server_->app().edge()->chat() != nullptr;
  const grpc::Status status = Generate(request);
  if (!has_chat) {
    Expect("no template", status, StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(ReasonIn(status), "CHAT_TEMPLATE");
    return;
  }
  Expect("chat", status, StatusCode::OK);
  message->set_role("root");
  Expect("role", Generate(request), StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace descant
