#include "server/cli/json_output.h"

#include <cstdio>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace descant::cli {
namespace {

double Milliseconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e3 +
         duration.nanos() * 1e-6;
}

template <typename Repeated>
Json List(const Repeated& values) {
  Json list = Json::array();
  for (const auto& value : values) list.push_back(value);
  return list;
}

// FOO_BAR of enum Foo -> "bar".
std::string EnumName(std::string name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

}  // namespace

std::string FinishReasonName(v1::FinishReason reason) {
  return EnumName(v1::FinishReason_Name(reason), "FINISH_REASON_");
}

std::string AdapterStateName(v1::AdapterState state) {
  return EnumName(v1::AdapterState_Name(state), "ADAPTER_STATE_");
}

std::string AdapterLevelName(v1::AdapterLevel level) {
  return EnumName(v1::AdapterLevel_Name(level), "ADAPTER_LEVEL_");
}

std::string AdapterEventName(v1::AdapterEvent event) {
  return EnumName(v1::AdapterEvent_Name(event), "ADAPTER_EVENT_");
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ",
                          absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

namespace {

// The members `logprobs` and `top_logprobs` of `json`, or with a prefix.
void AddLogprobs(
    const google::protobuf::RepeatedPtrField<v1::TokenLogprobs>& tokens,
    const std::string& prefix, Json* json) {
  Json logprobs = Json::array();
  Json top_logprobs = Json::array();
  for (const v1::TokenLogprobs& token : tokens) {
    logprobs.push_back(token.has_logprob() ? Json(token.logprob()) : Json());
    Json pairs = Json::array();
    for (const v1::TopLogprob& top : token.top()) {
      pairs.push_back(Json::array({top.token_id(), top.logprob()}));
    }
    top_logprobs.push_back(std::move(pairs));
  }
  (*json)[prefix + "logprobs"] = std::move(logprobs);
  (*json)[prefix + "top_logprobs"] = std::move(top_logprobs);
}

void AddStop(const v1::Choice& choice, Json* json) {
  (*json)["finish_reason"] = FinishReasonName(choice.finish_reason());
  if (choice.has_stop_string()) (*json)["stop_string"] = choice.stop_string();
  if (choice.has_stop_token_id()) {
    (*json)["stop_token_id"] = choice.stop_token_id();
  }
}

Json ChoiceJson(const v1::Choice& choice) {
  Json json = {{"index", choice.index()},
               {"text", choice.text()},
               {"token_ids", List(choice.token_ids())}};
  AddLogprobs(choice.logprobs(), "", &json);
  AddStop(choice, &json);
  return json;
}

}  // namespace

Json AnswerJson(const v1::GenerateResponse& response) {
  static const v1::Choice& none = v1::Choice::default_instance();
  const v1::Choice& choice =
      response.choices_size() > 0 ? response.choices(0) : none;
  Json json = {{"text", choice.text()},
               {"token_ids", List(choice.token_ids())}};
  AddLogprobs(choice.logprobs(), "", &json);
  json["adapter_digest"] = response.adapter_digest();
  AddStop(choice, &json);
  if (response.choices_size() > 1) {
    for (const v1::Choice& each : response.choices()) {
      json["choices"].push_back(ChoiceJson(each));
    }
  }
  if (response.prompt_logprobs_size() > 0) {
    json["prompt_token_ids"] = Json::array();
    for (const v1::TokenLogprobs& token : response.prompt_logprobs()) {
      json["prompt_token_ids"].push_back(token.token_id());
    }
    AddLogprobs(response.prompt_logprobs(), "prompt_", &json);
  }
  const v1::Usage& usage = response.usage();
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens()},
                   {"completion_tokens", usage.completion_tokens()},
                   {"cached_tokens", usage.cached_tokens()},
                   {"draft_tokens", usage.draft_tokens()},
                   {"accepted_draft_tokens", usage.accepted_draft_tokens()}};
  const v1::Timings& timings = response.timings();
  json["timings_ms"] = {{"queue", Milliseconds(timings.queue())},
                        {"prefill", Milliseconds(timings.prefill())},
                        {"decode", Milliseconds(timings.decode())}};
  json["seed"] = response.seed();
  json["request_id"] = response.request_id();
  return json;
}

Json AdapterJson(const v1::Adapter& adapter) {
  // Sorted: a map of Protobuf has no order.
  const std::map<std::string, std::string> labels(adapter.labels().begin(),
                                                  adapter.labels().end());
  return {{"name", adapter.name()},
          {"digest", adapter.digest()},
          {"version", adapter.version()},
          {"state", AdapterStateName(adapter.state())},
          {"state_reason", adapter.state_reason()},
          {"max_rank", adapter.max_rank()},
          {"module_count", adapter.module_count()},
          {"target_modules", List(adapter.target_modules())},
          {"parameter_count", adapter.parameter_count()},
          {"size_bytes", adapter.size_bytes()},
          {"base_model_name_or_path", adapter.base_model_name_or_path()},
          {"create_time", FormatTime(adapter.create_time())},
          {"labels", labels},
          {"level", AdapterLevelName(adapter.level())},
          {"pinned", adapter.pinned()},
          {"sharing",
           {{"tenants", List(adapter.sharing().tenants())},
            {"all_tenants", adapter.sharing().all_tenants()}}}};
}

Json ModelJson(const v1::GetModelResponse& model) {
  const v1::GenerationLimits& generation = model.generation_limits();
  const v1::AdapterLimits& adapter = model.adapter_limits();
  return {{"name", model.name()},
          {"architecture", model.architecture()},
          {"base_fingerprint", model.base_fingerprint()},
          {"server_version", model.server_version()},
          {"device", model.device()},
          {"vocab_size", model.vocab_size()},
          {"eos_token_ids", List(model.eos_token_ids())},
          {"chat_template_supported", model.chat_template_supported()},
          {"generation_limits",
           {{"max_model_len", generation.max_model_len()},
            {"max_prompt_bytes", generation.max_prompt_bytes()},
            {"max_top_logprobs", generation.max_top_logprobs()},
            {"max_stop_entries", generation.max_stop_entries()},
            {"max_stop_string_bytes", generation.max_stop_string_bytes()},
            {"max_choices", generation.max_choices()},
            {"max_logit_bias_entries", generation.max_logit_bias_entries()},
            {"max_running", generation.max_running()}}},
          {"adapter_limits",
           {{"max_rank", adapter.max_rank()},
            {"max_size_bytes", adapter.max_size_bytes()},
            {"max_config_bytes", adapter.max_config_bytes()},
            {"max_adapters", adapter.max_adapters()},
            {"max_chunk_bytes", adapter.max_chunk_bytes()}}},
          {"peft_features", List(model.peft_features())},
          {"target_modules", List(model.target_modules())}};
}

void PrintJson(const Json& value) {
  const std::string text =
      value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

}  // namespace descant::cli
