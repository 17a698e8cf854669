#include "runtime/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/model/hf_config.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json ValidConfig() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2,
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": true, "eos_token_id": [2, 7]})");
}

absl::StatusOr<HuggingFaceConfig> Parse(const Json& json) {
  return ParseHuggingFaceConfig(json.dump(), "dir/config.json");
}

TEST(HuggingFaceConfigTest, ReadsEveryField) {
  const auto config = Parse(ValidConfig());
  ASSERT_TRUE(config.ok()) << config.status();
  const ModelConfig& model = config->model;
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.num_layers, 2);
  EXPECT_EQ(model.hidden_size, 64);
  EXPECT_EQ(model.intermediate_size, 128);
  EXPECT_EQ(model.num_heads, 4);
  EXPECT_EQ(model.num_kv_heads, 2);
  EXPECT_EQ(model.head_dim, 16);
  EXPECT_EQ(model.vocab_size, 512);
  EXPECT_EQ(model.max_position, 512);
  EXPECT_FLOAT_EQ(model.norm_eps, 1e-5f);
  EXPECT_TRUE(model.tied_embeddings);
  EXPECT_EQ(model.rope.theta, 10000.0f);
  EXPECT_EQ(model.rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int32_t>{2, 7}));
}

TEST(HuggingFaceConfigTest, MissingKeysHaveLlamasDefaults) {
  Json json = ValidConfig();
  for (const char* key : {"num_key_value_heads", "max_position_embeddings",
                          "rms_norm_eps", "tie_word_embeddings"}) {
    json.erase(key);
  }
  json["head_dim"] = nullptr;
  json["eos_token_id"] = nullptr;
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.num_kv_heads, 4);
  EXPECT_EQ(config->model.max_position, 2048);
  EXPECT_FLOAT_EQ(config->model.norm_eps, 1e-6f);
  EXPECT_FALSE(config->model.tied_embeddings);
  EXPECT_EQ(config->model.head_dim, 16);
  EXPECT_TRUE(config->eos_token_ids.empty());
}

TEST(HuggingFaceConfigTest, RopeOfBothGenerations) {
  Json json = ValidConfig();
  json["rope_theta"] = 5000;
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.rope.theta, 5000.0f);
  EXPECT_EQ(config->model.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(config->model.rope.factor, 4.0f);

  json = ValidConfig();
  json["rope_parameters"] = {
      {"rope_theta", 500000.0},  {"rope_type", "llama3"},
      {"factor", 8.0},           {"low_freq_factor", 1.0},
      {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.rope.theta, 500000.0f);
  EXPECT_EQ(config->model.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(config->model.rope.original_max_position, 64);
}

TEST(HuggingFaceConfigTest, RefusesByName) {
  const struct {
    const char* key;
    Json value;
    const char* message;
  } cases[] = {
      {"architectures", Json::array({"BloomForCausalLM"}),
       "unknown architecture \"BloomForCausalLM\"; this server computes "},
      {"architectures", Json::array(), "architectures must name one"},
      {"architectures", "LlamaForCausalLM", "architectures must name one"},
      {"mlp_bias", "no", "mlp_bias must be true or false"},
      {"hidden_act", "gelu", "hidden_act \"gelu\" is not supported"},
      {"quantization_config", Json::object(), "quantization_config"},
      {"hidden_size", nullptr, "hidden_size is missing"},
      {"hidden_size", 64.5, "hidden_size must be an integer"},
      {"hidden_size", -64, "hidden_size must be an integer"},
      {"hidden_size", 5000000000, "hidden_size must be an integer"},
      {"hidden_size", 0, "hidden size is 0"},
      {"num_hidden_layers", 100000, "number of layers is 100000"},
      {"num_key_value_heads", 3, "4 heads are no multiple of 3"},
      {"num_key_value_heads", 8, "number of key-value heads is 8"},
      {"head_dim", 15, "head size 15 is odd"},
      {"vocab_size", nullptr, "vocab_size is missing"},
      {"rms_norm_eps", 0, "the norms' epsilon must be positive"},
      {"rms_norm_eps", "small", "rms_norm_eps must be a number"},
      {"rope_theta", -1, "rope theta must be positive"},
      {"rope_scaling",
       {{"rope_type", "dynamic"}, {"factor", 2.0}},
       "rope type \"dynamic\" is not supported"},
      {"rope_scaling", {{"rope_type", "linear"}}, "rope factor is missing"},
      {"rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8.0}},
       "rope low_freq_factor is missing"},
      {"rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 8.0},
        {"low_freq_factor", 4.0},
        {"high_freq_factor", 4.0}},
       "low_freq_factor < high_freq_factor"},
      {"rope_scaling", "linear", "rope_scaling must be an object"},
      {"rope_parameters",
       {{"partial_rotary_factor", 0.5}},
       "partial_rotary_factor is not supported"},
      {"eos_token_id", "end", "eos_token_id must be a token id"},
      {"eos_token_id", {1, -2}, "eos_token_id must be a token id"},
  };
  for (const auto& bad : cases) {
    Json json = ValidConfig();
    json[bad.key] = bad.value;
    const auto config = Parse(json);
    ASSERT_FALSE(config.ok()) << bad.message;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(config.status().message()),
                testing::StartsWith("dir/config.json: "));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(bad.message));
  }
}

TEST(HuggingFaceConfigTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "{", "{\"a\": 1, \"a\": 2}"}) {
    const auto config = ParseHuggingFaceConfig(text, "dir/config.json");
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(std::string(config.status().message()),
                testing::StartsWith("dir/config.json: "));
  }
}

TEST(GenerationConfigTest, EndOfSequenceIds) {
  const auto parse = [](const char* text) {
    return ParseEosTokenIds(text, "generation_config.json");
  };
  EXPECT_EQ(*parse(R"({"eos_token_id": 5})"), std::vector<int32_t>{5});
  EXPECT_EQ(*parse(R"({"eos_token_id": [1, 2]})"),
            (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(parse(R"({"eos_token_id": null})")->empty());
  EXPECT_TRUE(parse("{}")->empty());
  EXPECT_FALSE(parse(R"({"eos_token_id": true})").ok());
}

TEST(RopeTest, DivisorsAndLlama3ScalingAgree) {
  RopeConfig rope;
  rope.theta = 500000;
  const std::vector<float> plain = RopeInverseFrequencies(rope, 64);
  EXPECT_EQ(plain[0], 1.0f);
  EXPECT_NEAR(plain[31], std::pow(500000.0, -62.0 / 64), 1e-10);
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = 8;
  rope.original_max_position = 8192;
  const std::vector<float> scaled = RopeInverseFrequencies(rope, 64);
  EXPECT_EQ(scaled[0], plain[0]);        // short waves are kept
  EXPECT_EQ(scaled[31], plain[31] / 8);  // long ones divided
  // GGUF stores the quotient.
  rope.scaling = RopeScaling::kNone;
  for (int i = 0; i < 32; ++i) {
    rope.frequency_divisors.push_back(plain[i] / scaled[i]);
  }
  const std::vector<float> divided = RopeInverseFrequencies(rope, 64);
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(divided[i] / scaled[i], 1, 3e-7);
}

}  // namespace
}  // namespace descant
