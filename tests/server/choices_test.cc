// Several answers to a request, echo and log-probabilities of the prompt, over
// real gRPC.
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

v1::GenerateRequest LongRequest(int max_tokens) {
  v1::GenerateRequest request;
  for (int i = 0; i < 10; ++i) request.mutable_token_ids()->add_ids(3 + i);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

TEST(ChoicesTest, SeveralAnswersAndTheSameMixedInAStream) {
  TestServer server;
  v1::GenerateRequest request = LongRequest(40);
  request.set_n(4);
  request.mutable_output()->set_echo(true);
  request.mutable_output()->set_logprobs(true);
  request.mutable_output()->set_prompt_logprobs(1);
  request.mutable_sampling()->set_seed(5);
  grpc::ClientContext unary_context;
  v1::GenerateResponse whole;
  ASSERT_TRUE(
      server.generation().Generate(&unary_context, request, &whole).ok());
  ASSERT_EQ(whole.choices_size(), 4);
  EXPECT_EQ(whole.usage().prompt_tokens(), 10u);
  EXPECT_EQ(whole.usage().completion_tokens(), 160u);
  ASSERT_EQ(whole.prompt_logprobs_size(), 10);
  EXPECT_FALSE(whole.prompt_logprobs(0).has_logprob());
  for (int i = 1; i < 10; ++i) {
    EXPECT_TRUE(whole.prompt_logprobs(i).has_logprob());
    EXPECT_EQ(whole.prompt_logprobs(i).top_size(), 1);
  }
  std::set<std::string> texts;
  for (int i = 0; i < 4; ++i) {
    const v1::Choice& choice = whole.choices(i);
    EXPECT_EQ(choice.index(), static_cast<uint32_t>(i));
    EXPECT_EQ(choice.token_ids_size(), 40);
    EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_LENGTH);
    texts.insert(choice.text());
  }
  EXPECT_EQ(texts.size(), 4u);

  v1::GenerateStreamRequest stream;
  *stream.mutable_request() = request;
  grpc::ClientContext context;
  const auto reader = server.generation().GenerateStream(&context, stream);
  v1::GenerateStreamResponse part;
  v1::GenerateResponse merged;
  for (int i = 0; i < 4; ++i) merged.add_choices();
  bool last = false;
  while (reader->Read(&part)) {
    EXPECT_FALSE(last) << "nothing follows the last message";
    if (part.prompt_logprobs_size() > 0) {
      EXPECT_EQ(merged.choices(0).text(), "");
    }
    merged.mutable_prompt_logprobs()->MergeFrom(part.prompt_logprobs());
    if (part.has_delta()) {
      v1::Choice* choice = merged.mutable_choices(part.delta().index());
      EXPECT_EQ(choice->finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
      const std::string text = choice->text() + part.delta().text();
      choice->MergeFrom(part.delta());
      choice->set_text(text);
    }
    last = part.has_usage();
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(last);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(merged.choices(i).SerializeAsString(),
              whole.choices(i).SerializeAsString());
  }
  ASSERT_EQ(merged.prompt_logprobs_size(), 10);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(merged.prompt_logprobs(i).SerializeAsString(),
              whole.prompt_logprobs(i).SerializeAsString());
  }
}

TEST(ChoicesTest, BestOfGivesSomeAndCountsAll) {
  TestServer server;
  v1::GenerateRequest request = LongRequest(20);
  request.set_n(2);
  request.set_best_of(5);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(server.generation().Generate(&context, request, &response).ok());
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(1).index(), 1u);
  EXPECT_EQ(response.choices(0).logprobs_size(), 0);  // nobody asked
  EXPECT_EQ(response.usage().completion_tokens(), 100u);
  v1::GenerateStreamRequest stream;
  *stream.mutable_request() = request;
  grpc::ClientContext stream_context;
  const auto reader =
      server.generation().GenerateStream(&stream_context, stream);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(ChoicesTest, EchoIsThePromptAsItCame) {
  TestServer server;
  v1::GenerateRequest request;
  request.set_text("Hello there");
  request.mutable_stopping()->set_max_tokens(3);
  const auto ask = [&] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    EXPECT_TRUE(
        server.generation().Generate(&context, request, &response).ok());
    return response.choices(0).text();
  };
  const std::string answer = ask();
  request.mutable_output()->set_echo(true);
  EXPECT_EQ(ask(), "Hello there" + answer);
}

}  // namespace
}  // namespace descant
