#include "server/cli/run/request_line.h"

#include <google/protobuf/util/message_differencer.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateRequest Parse(const std::string& line,
                          const v1::GenerateRequest& defaults = {}) {
  auto parsed = ParseRequestLine(line, defaults);
  EXPECT_TRUE(parsed.ok()) << line << ": " << parsed.status();
  return parsed.ok() ? parsed->request : v1::GenerateRequest();
}

std::string Fault(const std::string& line) {
  const auto parsed = ParseRequestLine(line, {});
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << line;
  return std::string(parsed.status().message());
}

TEST(RequestLineTest, EveryKindOfPrompt) {
  EXPECT_EQ(Parse(R"({"text": "Grüße\n"})").text(), "Grüße\n");
  EXPECT_EQ(Parse(R"({"prompt": "x"})").text(), "x");
  EXPECT_EQ(Parse(R"({"text_bytes": "/w=="})").text_bytes(), "\xff");
  EXPECT_THAT(Parse(R"({"token_ids": [1, 49151, -1]})").token_ids().ids(),
              ElementsAre(1, 49151, -1));
  EXPECT_THAT(Parse(R"({"token_ids": {"ids": [7]}})").token_ids().ids(),
              ElementsAre(7));
  const v1::GenerateRequest chat = Parse(
      R"({"messages": [{"role": "system", "content": "s"},
                       {"role": "user", "content": "u"}]})");
  ASSERT_EQ(chat.messages().messages_size(), 2);
  EXPECT_EQ(chat.messages().messages(1).role(), "user");
  EXPECT_EQ(chat.messages().messages(1).content(), "u");
}

TEST(RequestLineTest, FlatAndNestedAreTheSame) {
  const v1::GenerateRequest flat = Parse(
      R"({"text": "x", "adapter": "a", "temperature": 0, "top_k": 5,
          "seed": 18446744073709551615, "max_tokens": 9,
          "stop_strings": ["a", "b"], "stop_token_ids": [3], "ignore_eos": true,
          "logprobs": true, "priority": -3})");
  const v1::GenerateRequest nested = Parse(
      R"({"text": "x", "adapter_id": "a", "priority": -3,
          "sampling": {"temperature": 0, "seed": "18446744073709551615",
                       "top_k": 5},
          "stopping": {"max_tokens": 9, "stop_strings": ["a", "b"],
                       "stop_token_ids": [3], "ignore_eos": true},
          "output": {"logprobs": true}})");
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(flat, nested));
  EXPECT_EQ(flat.adapter_id(), "a");
  EXPECT_TRUE(flat.sampling().has_temperature());
  EXPECT_EQ(flat.sampling().seed(), ~uint64_t{0});
  EXPECT_EQ(flat.stopping().max_tokens(), 9);
  EXPECT_EQ(flat.priority(), -3);
}

TEST(RequestLineTest, DefaultsFillWhatIsLeftOut) {
  v1::GenerateRequest defaults;
  defaults.set_adapter_id("usual");
  defaults.mutable_sampling()->set_temperature(0);
  defaults.mutable_stopping()->set_max_tokens(8);
  defaults.mutable_stopping()->add_stop_strings("usual");
  defaults.mutable_stopping()->set_ignore_eos(true);
  defaults.mutable_output()->set_token_ids(true);
  const v1::GenerateRequest request = Parse(
      R"({"text": "x", "stop_strings": ["other"], "ignore_eos": false,
          "top_k": 4, "adapter_id": null})",
      defaults);
  EXPECT_EQ(request.adapter_id(), "usual");
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_EQ(request.sampling().top_k(), 4);
  EXPECT_EQ(request.stopping().max_tokens(), 8);
  EXPECT_THAT(request.stopping().stop_strings(), ElementsAre("other"));
  EXPECT_TRUE(request.stopping().has_ignore_eos());
  EXPECT_FALSE(request.stopping().ignore_eos());
  EXPECT_TRUE(request.output().token_ids());
}

TEST(RequestLineTest, IdIsTheLinesOwn) {
  const auto parsed = ParseRequestLine(R"({"id": "q 1", "text": "x"})", {});
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->id, "q 1");
  EXPECT_THAT(Fault(R"({"id": 1, "text": "x"})"), HasSubstr("id"));
}

TEST(RequestLineTest, FaultsAreNamed) {
  EXPECT_THAT(Fault("{\"text\": \"x\""), HasSubstr("no JSON"));
  EXPECT_THAT(Fault("hello"), HasSubstr("no JSON, at byte 1"));
  EXPECT_THAT(Fault("{\"text\": \"\xff\"}"), HasSubstr("no JSON"));
  EXPECT_THAT(Fault("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(Fault("{}"), HasSubstr("no prompt"));
  EXPECT_THAT(Fault(R"({"text": "x", "temprature": 1})"),
              HasSubstr("unknown key \"temprature\""));
  EXPECT_THAT(Fault(R"({"text": "x", "sampling": {"warmth": 1}})"),
              HasSubstr("warmth"));
  EXPECT_THAT(Fault(R"({"text": "x", "max_tokens": "many"})"),
              HasSubstr("max_tokens"));
  EXPECT_THAT(Fault(R"({"text": "x", "max_tokens": 1.5})"),
              HasSubstr("max_tokens"));
  EXPECT_THAT(Fault(R"({"text": "x", "max_tokens": 4294967296})"),
              HasSubstr("max_tokens"));
  EXPECT_THAT(Fault(R"({"text": 7})"), HasSubstr("text"));
  EXPECT_THAT(Fault(R"({"token_ids": [1, "x"]})"), HasSubstr("token_ids"));
  EXPECT_THAT(Fault(R"({"text": "x", "text": "y"})"), HasSubstr("given twice"));
  EXPECT_THAT(Fault(R"({"text": "x", "prompt": "y"})"),
              HasSubstr("given twice"));
  EXPECT_THAT(Fault(R"({"text": "x", "seed": 1, "sampling": {"seed": 2}})"),
              HasSubstr("seed: is given twice"));
  EXPECT_THAT(Fault(R"({"text": "x", "seed": 1, "sampling": 2})"),
              HasSubstr("sampling"));
  EXPECT_NE(Fault(R"({"text": "x", "token_ids": [1]})"), "");
  const std::string deep =
      absl::StrCat(R"({"text": "x", "messages": )", std::string(100000, '['),
                   std::string(100000, ']'), "}");
  EXPECT_THAT(Fault(deep), HasSubstr("deep"));
}

TEST(RequestLineTest, DigestIsOfAllThatIsAsked) {
  v1::GenerateRequest defaults;
  const uint64_t digest = InputDigest("{}", defaults, "sha256:1");
  EXPECT_EQ(InputDigest("{}", defaults, "sha256:1"), digest);
  EXPECT_NE(InputDigest("{ }", defaults, "sha256:1"), digest);
  EXPECT_NE(InputDigest("{}", defaults, "sha256:2"), digest);
  defaults.mutable_sampling()->set_temperature(0);
  EXPECT_NE(InputDigest("{}", defaults, "sha256:1"), digest);
}

}  // namespace
}  // namespace descant::cli
