// What GGUF's keys imply, beyond what the small models show
// (gguf_model_test): sizes and rules of published models, split files.
#include "runtime/model/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/model/gguf_parts.h"
#include "tests/runtime/model/gguf_builder.h"

namespace descant {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class GgufConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + "descant_gguf_config_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const GgufBuilder& builder) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << builder.Build();
    return path;
  }
  absl::StatusOr<ModelConfig> Read(const GgufBuilder& builder) {
    const auto parts = GgufParts::Open(Write("model.gguf", builder));
    if (!parts.ok()) return parts.status();
    return ReadGgufConfig(**parts);
  }

  std::string folder_;
};

struct Sizes {
  uint32_t layers, hidden, intermediate, heads, kv_heads, head_dim, context;
};

GgufBuilder Model(const std::string& name, const Sizes& sizes) {
  GgufBuilder builder;
  builder.Set("general.architecture", name);
  builder.Set(name + ".block_count", sizes.layers);
  builder.Set(name + ".embedding_length", sizes.hidden);
  builder.Set(name + ".feed_forward_length", sizes.intermediate);
  builder.Set(name + ".attention.head_count", sizes.heads);
  builder.Set(name + ".attention.head_count_kv", sizes.kv_heads);
  builder.Set(name + ".attention.key_length", sizes.head_dim);
  builder.Set(name + ".attention.value_length", sizes.head_dim);
  builder.Set(name + ".context_length", sizes.context);
  builder.Set(name + ".attention.layer_norm_rms_epsilon", 1e-6f);
  builder.SetTensor("token_embd.weight", {sizes.hidden, 2},
                    std::vector<float>(sizes.hidden * 2));
  return builder;
}

constexpr Sizes kGemma2_9b = {42, 3584, 14336, 16, 8, 256, 8192};
constexpr Sizes kGemma2_27b = {46, 4608, 36864, 32, 16, 128, 8192};
constexpr Sizes kGemma3_4b = {34, 2560, 10240, 8, 4, 256, 131072};
constexpr Sizes kGemma3_27b = {62, 5376, 21504, 32, 16, 128, 131072};
constexpr Sizes kPhi35Mini = {32, 3072, 8192, 32, 32, 96, 131072};
constexpr Sizes kQwen25_7b = {28, 3584, 18944, 28, 4, 128, 131072};

TEST_F(GgufConfigTest, Gemma2) {
  const auto config = Read(Model("gemma2", kGemma2_9b));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->embedding_scale, std::sqrt(3584.0f));
  EXPECT_EQ(AttentionScale(*config), 1.0f / 16);
  EXPECT_EQ(config->attention_logit_cap, 50.0f);
  EXPECT_EQ(config->final_logit_cap, 30.0f);
  EXPECT_TRUE(config->post_norms);
  EXPECT_FALSE(config->qk_norm);
  ASSERT_EQ(config->windows.size(), 42u);
  for (int32_t layer = 0; layer < 42; ++layer) {
    EXPECT_EQ(WindowOf(*config, layer), layer % 2 == 0 ? 4096 : 0);
  }
  EXPECT_FALSE(config->window_rope.has_value());

  GgufBuilder capless = Model("gemma2", kGemma2_9b);
  capless.Set("gemma2.attn_logit_softcapping", 0.0f);
  capless.Set("gemma2.attention.sliding_window", 0u);
  const auto plain = Read(capless);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->attention_logit_cap, 0.0f);
  EXPECT_TRUE(plain->windows.empty());
}

// query_pre_attn_scalar of the published models: 144 and 168.
TEST_F(GgufConfigTest, TheLargeGemmasScaleQueriesByHiddenSizePerHead) {
  const auto gemma2 = Read(Model("gemma2", kGemma2_27b));
  ASSERT_TRUE(gemma2.ok()) << gemma2.status();
  EXPECT_FLOAT_EQ(AttentionScale(*gemma2), 1 / 12.0f);
  const auto gemma3 = Read(Model("gemma3", kGemma3_27b));
  ASSERT_TRUE(gemma3.ok()) << gemma3.status();
  EXPECT_FLOAT_EQ(AttentionScale(*gemma3), 1 / std::sqrt(168.0f));
}

TEST_F(GgufConfigTest, Gemma3) {
  GgufBuilder builder = Model("gemma3", kGemma3_4b);
  builder.Set("gemma3.rope.freq_base", 1e6f);
  builder.Set("gemma3.rope.scaling.type", std::string("linear"));
  builder.Set("gemma3.rope.scaling.factor", 8.0f);
  builder.Set("gemma3.attention.sliding_window", 1024u);
  auto config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->qk_norm);
  EXPECT_EQ(config->attention_logit_cap, 0.0f);
  EXPECT_EQ(config->final_logit_cap, 0.0f);
  for (int32_t layer = 0; layer < 34; ++layer) {
    const bool local = layer % 6 != 5;
    EXPECT_EQ(WindowOf(*config, layer), local ? 1024 : 0);
    EXPECT_EQ(RopeOf(*config, layer).theta, local ? 10000.0f : 1e6f);
    EXPECT_EQ(RopeOf(*config, layer).scaling,
              local ? RopeScaling::kNone : RopeScaling::kLinear);
  }
  // The key that newer files have, as a number and as flags.
  builder.Set("gemma3.rope.freq_base_swa", 5000.0f);
  builder.Set("gemma3.attention.sliding_window_pattern", 2u);
  config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(RopeOf(*config, 0).theta, 5000.0f);
  EXPECT_EQ(WindowOf(*config, 1), 0);
  EXPECT_EQ(WindowOf(*config, 2), 1024);
  std::vector<bool> flags(34);
  flags[33] = true;
  builder.Set("gemma3.attention.sliding_window_pattern", flags);
  config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(WindowOf(*config, 0), 0);
  EXPECT_EQ(WindowOf(*config, 33), 1024);
  flags.pop_back();
  builder.Set("gemma3.attention.sliding_window_pattern", flags);
  EXPECT_THAT(std::string(Read(builder).status().message()),
              HasSubstr("sliding_window_pattern must have one entry a layer"));
}

TEST_F(GgufConfigTest, Phi3) {
  GgufBuilder builder = Model("phi3", kPhi35Mini);
  builder.Set("phi3.rope.dimension_count", 72u);
  builder.Set("phi3.attention.sliding_window", 2047u);
  builder.Set("phi3.rope.scaling.original_context_length", 4096u);
  auto config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.rotary_dim, 72);
  EXPECT_EQ(config->max_position, 131072);
  EXPECT_THAT(config->windows, Each(2047));
  EXPECT_EQ(config->naming, ModuleNaming::kPhi3);
  // Only the original context is served where long factors are.
  std::vector<float> factors(36, 1.5f);
  builder.SetTensor("rope_factors_short.weight", {36}, factors);
  builder.SetTensor("rope_factors_long.weight", {36}, factors);
  builder.Set("phi3.rope.scaling.attn_factor", 1.19f);
  config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.scaling, RopeScaling::kLongRope);
  EXPECT_EQ(config->rope.attention_factor, 1.19f);
  EXPECT_EQ(config->max_position, 4096);
  EXPECT_EQ(config->rope.frequency_divisors, factors);
  builder.SetTensor("rope_factors_short.weight", {35},
                    std::vector<float>(35, 1.0f));
  EXPECT_THAT(std::string(Read(builder).status().message()),
              HasSubstr("rope_factors_short.weight: must be F32 [36]"));
}

TEST_F(GgufConfigTest, Yarn) {
  GgufBuilder builder = Model("qwen2", kQwen25_7b);
  builder.Set("qwen2.rope.freq_base", 1e6f);
  builder.Set("qwen2.rope.scaling.type", std::string("yarn"));
  builder.Set("qwen2.rope.scaling.factor", 4.0f);
  builder.Set("qwen2.rope.scaling.original_context_length", 32768u);
  auto config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(config->rope.original_max_position, 32768);
  EXPECT_FLOAT_EQ(config->rope.attention_factor, 1.138629436f);
  EXPECT_EQ(config->rope.beta_fast, 32.0f);
  builder.Set("qwen2.rope.scaling.yarn_attn_factor", 1.0f);
  builder.Set("qwen2.rope.scaling.yarn_beta_fast", 24.0f);
  config = Read(builder);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.attention_factor, 1.0f);
  EXPECT_EQ(config->rope.beta_fast, 24.0f);
}

TEST_F(GgufConfigTest, SplitFilesMustFit) {
  const auto part = [](uint32_t no, uint32_t count, const char* tensor) {
    GgufBuilder builder;
    if (no == 0) builder = Model("qwen2", kQwen25_7b);
    builder.Set("split.no", no);
    builder.Set("split.count", count);
    builder.SetTensor(tensor, {4}, std::vector<float>(4));
    return builder;
  };
  const auto open = [&] {
    const auto parts = GgufParts::Open(folder_ + "/m-00001-of-00003.gguf");
    EXPECT_TRUE(!parts.ok() || (*parts)->files().size() == 3);
    return std::string(parts.status().message());
  };
  Write("m-00001-of-00003.gguf", part(0, 3, "a"));
  Write("m-00002-of-00003.gguf", part(1, 3, "b"));
  EXPECT_THAT(open(), HasSubstr("m-00003-of-00003.gguf"));  // is missing
  Write("m-00003-of-00003.gguf", part(2, 3, "c"));
  EXPECT_EQ(open(), "");
  Write("m-00003-of-00003.gguf", part(1, 3, "c"));
  EXPECT_THAT(open(), HasSubstr("split.no and split.count must be 2 and 3"));
  Write("m-00003-of-00003.gguf", part(2, 4, "c"));
  EXPECT_THAT(open(), HasSubstr("split.no and split.count must be 2 and 3"));
  Write("m-00003-of-00003.gguf", part(2, 3, "b"));
  EXPECT_THAT(open(), HasSubstr("tensor b: is in an earlier part as well"));
  const auto later = GgufParts::Open(folder_ + "/m-00002-of-00003.gguf");
  EXPECT_THAT(std::string(later.status().message()),
              HasSubstr("is a later part of a split model"));
}

}  // namespace
}  // namespace descant
