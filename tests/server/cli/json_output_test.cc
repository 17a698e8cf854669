#include "server/cli/json_output.h"

#include <gtest/gtest.h>

namespace descant::cli {
namespace {

TEST(JsonOutputTest, Answer) {
  v1::GenerateResponse response;
  v1::Choice* choice = response.add_choices();
  choice->set_text("Hi");
  choice->add_token_ids(7);
  v1::TokenLogprobs* token = choice->add_logprobs();
  token->set_token_id(7);
  token->set_logprob(-0.25f);
  v1::TopLogprob* top = token->add_top();
  top->set_token_id(7);
  top->set_logprob(-0.25f);
  top = token->add_top();
  top->set_token_id(9);
  top->set_logprob(-1.5f);
  choice->set_finish_reason(v1::FINISH_REASON_END_OF_SEQUENCE);
  response.set_adapter_digest("sha256:ab");
  response.mutable_usage()->set_prompt_tokens(3);
  response.mutable_usage()->set_completion_tokens(1);
  response.mutable_timings()->mutable_decode()->set_seconds(1);
  response.mutable_timings()->mutable_decode()->set_nanos(500'000);
  response.set_seed(5);
  EXPECT_EQ(AnswerJson(response).dump(),
            R"({"text":"Hi","token_ids":[7],"logprobs":[-0.25],)"
            R"("top_logprobs":[[[7,-0.25],[9,-1.5]]],)"
            R"("adapter_digest":"sha256:ab",)"
            R"("finish_reason":"end_of_sequence",)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":1,)"
            R"("cached_tokens":0,"draft_tokens":0,)"
            R"("accepted_draft_tokens":0},)"
            R"("timings_ms":{"queue":0.0,"prefill":0.0,"decode":1000.5},)"
            R"("seed":5,"request_id":""})");
}

TEST(JsonOutputTest, SeveralAnswersAndThePrompt) {
  v1::GenerateResponse response;
  response.add_choices()->set_text("first");
  v1::Choice* second = response.add_choices();
  second->set_index(1);
  second->set_text("second");
  second->set_finish_reason(v1::FINISH_REASON_STOP_STRING);
  second->set_stop_string("x");
  response.add_prompt_logprobs()->set_token_id(4);
  v1::TokenLogprobs* token = response.add_prompt_logprobs();
  token->set_token_id(5);
  token->set_logprob(-0.5f);
  const Json json = AnswerJson(response);
  EXPECT_EQ(json["text"], "first");
  EXPECT_FALSE(json.contains("stop_string"));
  ASSERT_EQ(json["choices"].size(), 2u);
  EXPECT_EQ(json["choices"][1].dump(),
            R"({"index":1,"text":"second","token_ids":[],"logprobs":[],)"
            R"("top_logprobs":[],"finish_reason":"stop_string",)"
            R"("stop_string":"x"})");
  EXPECT_EQ(json["prompt_token_ids"].dump(), "[4,5]");
  EXPECT_EQ(json["prompt_logprobs"].dump(), "[null,-0.5]");
  EXPECT_EQ(json["prompt_top_logprobs"].dump(), "[[],[]]");
}

TEST(JsonOutputTest, NoAnswerIsStillOneObject) {
  const Json json = AnswerJson({});
  EXPECT_EQ(json["text"], "");
  EXPECT_TRUE(json["token_ids"].is_array());
  EXPECT_TRUE(json["top_logprobs"].empty());
}

TEST(JsonOutputTest, Adapter) {
  v1::Adapter adapter;
  adapter.set_name("a");
  adapter.set_version(18446744073709551615u);
  (*adapter.mutable_labels())["z"] = "last";
  (*adapter.mutable_labels())["a"] = "first";
  adapter.set_level(v1::ADAPTER_LEVEL_DEVICE);
  adapter.mutable_sharing()->add_tenants("globex");
  const Json json = AdapterJson(adapter);
  EXPECT_EQ(json["version"].dump(), "18446744073709551615");
  EXPECT_EQ(json["labels"].dump(), R"({"a":"first","z":"last"})");
  EXPECT_EQ(json["level"], "device");
  EXPECT_EQ(json["pinned"], false);
  EXPECT_EQ(json["sharing"].dump(),
            R"({"tenants":["globex"],"all_tenants":false})");
  EXPECT_TRUE(AdapterJson({})["labels"].is_object());
}

TEST(JsonOutputTest, Names) {
  EXPECT_EQ(AdapterLevelName(v1::ADAPTER_LEVEL_UNSPECIFIED), "unspecified");
  EXPECT_EQ(AdapterEventName(v1::ADAPTER_EVENT_SYNCED), "synced");
  EXPECT_EQ(FinishReasonName(v1::FINISH_REASON_STOP_STRING), "stop_string");
  EXPECT_EQ(AdapterStateName(v1::ADAPTER_STATE_QUARANTINED), "quarantined");
  google::protobuf::Timestamp time;
  time.set_seconds(1764000083);
  EXPECT_EQ(FormatTime(time), "2025-11-24T16:01:23Z");
}

}  // namespace
}  // namespace descant::cli
