// config.json of every family: as Transformers understands it
// (tests/golden/data/configs.json), and what is refused.
#include "runtime/model/hf_families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/hf_config.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

const Json& GoldenConfigs() {
  static const auto* golden = new Json(
      Json::parse(ReadFileOrDie(SourcePath("tests/golden/data/configs.json"))));
  return golden->at("cases");
}

// A config of configs.json.
Json ConfigNamed(const std::string& name) {
  for (const Json& entry : GoldenConfigs()) {
    if (entry.at("name") == name) return entry.at("config");
  }
  ADD_FAILURE() << name;
  return Json::object();
}

absl::StatusOr<HuggingFaceConfig> Parse(const Json& json) {
  return ParseHuggingFaceConfig(json.dump(), "dir/config.json");
}

void ExpectRope(const Json& want, const RopeConfig& rope, int32_t head_dim) {
  const std::vector<float> have = RopeInverseFrequencies(rope, head_dim);
  const auto expected =
      want.at("inverse_frequencies").get<std::vector<float>>();
  ASSERT_EQ(have.size(), expected.size());
  for (size_t i = 0; i < have.size(); ++i) {
    EXPECT_NEAR(have[i] / expected[i], 1, 3e-7) << i;
  }
  EXPECT_NEAR(rope.attention_factor, want.at("attention_factor").get<float>(),
              1e-6);
}

TEST(HuggingFaceFamiliesTest, ConfigsMeanWhatTransformersTakesThemFor) {
  ASSERT_GE(GoldenConfigs().size(), 20u);
  for (const Json& entry : GoldenConfigs()) {
    SCOPED_TRACE(entry.at("name").get<std::string>());
    const Json& want = entry.at("understood");
    const auto config = Parse(entry.at("config"));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family->architecture,
              entry.at("config").at("architectures").at(0).get<std::string>());
    const ModelConfig& model = config->model;
    EXPECT_EQ(model.num_kv_heads, want.at("kv_heads"));
    EXPECT_EQ(model.head_dim, want.at("head_dim"));
    EXPECT_EQ(model.tied_embeddings, want.at("tied"));
    EXPECT_FLOAT_EQ(model.norm_eps, want.at("norm_eps"));
    EXPECT_EQ(model.intermediate_size, want.at("intermediate"));
    const int32_t positions = want.at("max_position");
    EXPECT_EQ(model.max_position, model.rope.scaling == RopeScaling::kLongRope
                                      ? model.rope.original_max_position
                                      : positions);
    const auto windows = want.at("windows").get<std::vector<int32_t>>();
    for (int32_t layer = 0; layer < model.num_layers; ++layer) {
      EXPECT_EQ(WindowOf(model, layer), windows.empty() ? 0 : windows[layer]);
    }
    if (want.contains("rope")) {
      ExpectRope(want.at("rope"), model.rope, model.head_dim);
    }
    ASSERT_EQ(model.window_rope.has_value(), want.contains("window_rope"));
    if (model.window_rope.has_value()) {
      ExpectRope(want.at("window_rope"), *model.window_rope, model.head_dim);
    }
  }
}

TEST(HuggingFaceFamiliesTest, Features) {
  const auto model = [](const std::string& name) {
    const auto config = Parse(ConfigNamed(name));
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->model : ModelConfig();
  };
  const ModelConfig biased = model("llama with biases");
  EXPECT_TRUE(biased.qkv_bias && biased.out_bias && biased.mlp_bias);
  const ModelConfig qwen2 = model("qwen2.5");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.out_bias && !qwen2.qk_norm);
  const ModelConfig qwen3 = model("qwen3");
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);
  const ModelConfig gemma2 = model("gemma 2");
  EXPECT_TRUE(gemma2.post_norms && !gemma2.qk_norm);
  EXPECT_EQ(gemma2.activation, Activation::kGeluTanh);
  EXPECT_EQ(gemma2.embedding_scale, 16.0f);
  EXPECT_FLOAT_EQ(AttentionScale(gemma2), 1 / std::sqrt(224.0f));
  EXPECT_EQ(gemma2.attention_logit_cap, 50.0f);
  EXPECT_EQ(gemma2.final_logit_cap, 30.0f);
  const ModelConfig uncapped = model("gemma 2 with defaults, no caps");
  EXPECT_EQ(uncapped.attention_logit_cap, 0.0f);
  EXPECT_EQ(uncapped.final_logit_cap, 0.0f);
  EXPECT_EQ(AttentionScale(uncapped), 1 / 16.0f);
  const ModelConfig gemma3 = model("gemma 3 1b");
  EXPECT_TRUE(gemma3.post_norms && gemma3.qk_norm);
  EXPECT_EQ(gemma3.final_logit_cap, 0.0f);
  EXPECT_EQ(RopeOf(gemma3, 4).theta, 1e4f);
  EXPECT_EQ(RopeOf(gemma3, 5).theta, 1e6f);
  EXPECT_EQ(model("phi 4 mini").rope.rotary_dim, 48);
  const ModelConfig gpt2 = model("gpt-2");
  EXPECT_EQ(gpt2.norm, NormKind::kLayer);
  EXPECT_EQ(gpt2.position, PositionKind::kLearned);
  EXPECT_TRUE(gpt2.qkv_bias && gpt2.out_bias && gpt2.mlp_bias);
  EXPECT_FALSE(gpt2.gated_mlp);
  EXPECT_EQ(AttentionScale(gpt2), 0.125f);
  EXPECT_EQ(AttentionScale(model("gpt-2, inner size, no scale")), 1.0f);
}

TEST(HuggingFaceFamiliesTest, RefusesByName) {
  const Json no_list = Json::array();
  const struct {
    const char* config;
    const char* key;
    Json value;
    const char* message;
  } cases[] = {
      {"llama 3.1",
       "architectures",
       {"MixtralForCausalLM"},
       "\"MixtralForCausalLM\": mixture of experts is not supported"},
      {"qwen3",
       "architectures",
       {"Qwen3MoeForCausalLM"},
       "mixture of experts is not supported"},
      {"qwen2.5",
       "architectures",
       {"Qwen2MoeForCausalLM"},
       "mixture of experts is not supported"},
      {"phi 4 mini",
       "architectures",
       {"PhimoeForCausalLM"},
       "mixture of experts is not supported"},
      {"phi 4 mini", "num_local_experts", 16,
       "mixture of experts is not supported"},
      {"llama 3.1",
       "architectures",
       {"GptOssForCausalLM"},
       "mixture of experts is not supported"},
      {"gemma 3 1b",
       "architectures",
       {"Gemma3ForConditionalGeneration"},
       "images and encoders are not supported"},
      {"gemma 2",
       "architectures",
       {"GemmaForCausalLM"},
       "unknown architecture \"GemmaForCausalLM\"; this server computes "
       "LlamaForCausalLM, MistralForCausalLM"},
      {"mistral v0.1", "sliding_window", 0, "sliding_window must be positive"},
      {"mistral v0.1",
       "layer_types",
       {"sliding_attention"},
       "layer_types is not supported"},
      {"mistral v0.1", "hidden_act", "gelu",
       "hidden_act \"gelu\" is not supported"},
      {"qwen2, layer types",
       "layer_types",
       {"full_attention"},
       "layer_types has 1 entries, must be 3"},
      {"qwen2, layer types",
       "layer_types",
       {"full_attention", "chunked_attention", "full_attention"},
       "layer type \"chunked_attention\" is not supported"},
      {"qwen2, layer types", "layer_types", "full_attention",
       "layer_types must be a list of strings"},
      {"qwen2, layer types", "sliding_window", nullptr,
       "need a positive sliding_window"},
      {"qwen2.5",
       "rope_scaling",
       {{"type", "dynamic"}, {"factor", 2.0}},
       "rope type \"dynamic\" is not supported"},
      {"qwen2.5", "partial_rotary_factor", 0.5,
       "partial_rotary_factor is not supported"},
      {"qwen3",
       "rope_scaling",
       {{"rope_type", "yarn"},
        {"factor", 2.0},
        {"beta_fast", 1.0},
        {"beta_slow", 2.0}},
       "rope scaling yarn needs 0 < beta_slow < beta_fast"},
      {"qwen3",
       "rope_parameters",
       {{"full_attention", {{"rope_type", "default"}}}},
       "rope by layer type is not supported"},
      {"gemma 2", "use_bidirectional_attention", true,
       "use_bidirectional_attention is not supported"},
      {"gemma 2", "hidden_activation", "gelu",
       "hidden_activation \"gelu\" is not supported"},
      {"gemma 2", "attn_logit_softcapping", -1.0,
       "attn_logit_softcapping must be positive"},
      {"gemma 2", "query_pre_attn_scalar", 0,
       "query_pre_attn_scalar must be positive"},
      {"gemma 2", "sliding_window", nullptr, "need a positive sliding_window"},
      {"gemma 3 1b", "attn_logit_softcapping", 50.0,
       "attn_logit_softcapping is not supported"},
      {"gemma 3 1b", "sliding_window_pattern", 0,
       "sliding_window_pattern must be positive"},
      {"gemma 3 1b",
       "rope_parameters",
       {{"rope_theta", 5.0}},
       "rope_parameters must be given by layer type"},
      {"phi 3 mini 4k", "attention_bias", true,
       "attention_bias is not supported"},
      {"phi 4 mini", "lm_head_bias", true, "lm_head_bias is not supported"},
      {"phi 4 mini", "partial_rotary_factor", 0.5,
       "rope frequency divisors: 24, must be 16"},
      {"phi 4 mini", "partial_rotary_factor", 1.5,
       "partial_rotary_factor must be over 0 and at most 1"},
      {"phi 3 mini 128k",
       "rope_scaling",
       {{"type", "longrope"}},
       "rope short_factor is missing"},
      {"phi 3 mini 128k",
       "rope_scaling",
       {{"type", "longrope"},
        {"short_factor", {1.0, "x"}},
        {"long_factor", no_list}},
       "short_factor must be a list of numbers"},
      {"phi 3 mini 128k",
       "rope_scaling",
       {{"type", "longrope"},
        {"short_factor", {1.0}},
        {"long_factor", {1.0}},
        {"short_mscale", {1.0}}},
       "rope short_mscale is not supported"},
      {"phi 3 mini 128k", "original_max_position_embeddings", 0,
       "original_max_position_embeddings must be positive"},
      {"gpt-2", "scale_attn_by_inverse_layer_idx", true,
       "scale_attn_by_inverse_layer_idx is not supported"},
      {"gpt-2", "reorder_and_upcast_attn", true,
       "reorder_and_upcast_attn is not supported"},
      {"gpt-2", "add_cross_attention", true,
       "add_cross_attention is not supported"},
      {"gpt-2", "activation_function", "relu",
       "activation_function \"relu\" is not supported"},
      {"gpt-2", "n_head", 5, "n_embd 192 is no multiple of n_head 5"},
      {"gpt-2", "n_embd", nullptr, "n_embd is missing"},
      {"gpt-2", "n_embd", 2000000001, "n_embd is out of range"},
      {"gpt-2", "quantization_config", Json::object(),
       "quantization_config is not supported"},
  };
  for (const auto& bad : cases) {
    Json json = ConfigNamed(bad.config);
    json[bad.key] = bad.value;
    const auto config = Parse(json);
    ASSERT_FALSE(config.ok()) << bad.message;
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(config.status().message());
    EXPECT_THAT(message, testing::StartsWith("dir/config.json: "));
    EXPECT_THAT(message, HasSubstr(bad.message));
    EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  }
}

}  // namespace
}  // namespace descant
