// Checkpoints of every family as Transformers saves them: the tensors that
// are read from them, the modules that adapters may change, and what is
// refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "adapters/formats/safetensors.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"
#include "runtime/model/dequantize.h"
#include "runtime/model/model.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ModelPath(const std::string& name) {
  return SourcePath("tests/golden/models/" + name);
}

std::shared_ptr<const Model> Load(const std::string& name) {
  const auto loaded = LoadModel(ModelPath(name));
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? loaded->model : nullptr;
}

std::vector<SafetensorsEntry> EntriesOf(const std::string& directory) {
  const std::string whole = ReadFileOrDie(directory + "/model.safetensors");
  const auto index = ParseSafetensors(whole, SafetensorsLimits::BaseModel());
  EXPECT_TRUE(index.ok());
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsTensor& tensor : index->tensors) {
    entries.push_back(
        {tensor.name, tensor.dtype,
         std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()),
         whole.substr(tensor.begin, tensor.bytes())});
  }
  return entries;
}

// A bf16 tensor of a stored model.
std::vector<float> Stored(const std::string& model, const std::string& name) {
  for (const SafetensorsEntry& entry : EntriesOf(ModelPath(model))) {
    if (entry.name != name) continue;
    std::vector<float> values(entry.bytes.size() / 2);
    Dequantize(StorageType::kBF16, entry.bytes, absl::MakeSpan(values));
    return values;
  }
  ADD_FAILURE() << name;
  return {};
}

std::vector<float> Read(const Model& model, WeightKind kind, int32_t layer) {
  const WeightShape shape = ShapeOf(model.config, kind);
  std::vector<float> values(shape.rows * shape.columns);
  EXPECT_TRUE(
      model.weights->ReadFp32(kind, layer, 0, absl::MakeSpan(values)).ok());
  // Rows apart and in bf16 are the same.
  const int64_t row = shape.rows / 2;
  std::vector<BFloat16> half((shape.rows - row) * shape.columns);
  EXPECT_TRUE(
      model.weights->ReadBf16(kind, layer, row, absl::MakeSpan(half)).ok());
  for (size_t i = 0; i < half.size(); ++i) {
    EXPECT_EQ(half[i].bits, ToBFloat16(values[row * shape.columns + i]).bits);
  }
  return values;
}

std::vector<std::string> PathsOfLayer(const Model& model, int32_t layer) {
  std::vector<std::string> paths;
  for (const BaseModule& module : model.base_shape.modules) {
    if (module.layer == layer) {
      paths.push_back(
          absl::StrCat(module.path, " ", module.in, ">", module.out));
    }
  }
  return paths;
}

TEST(FamilyModelsTest, EveryFamilyLoads) {
  for (const char* name : kGoldenModels) {
    const auto model = Load(ReadGolden(name).model);
    ASSERT_NE(model, nullptr) << name;
    for (int32_t i = 0; i < kWeightKinds; ++i) {
      const auto kind = static_cast<WeightKind>(i);
      if (HasWeight(model->config, kind)) Read(*model, kind, 0);
    }
  }
}

TEST(FamilyModelsTest, GemmasNormsAreOneMoreThanStored) {
  const auto model = Load("tiny-gemma3");
  const struct {
    WeightKind kind;
    const char* name;
  } norms[] = {
      {WeightKind::kAttentionNorm, "input_layernorm"},
      {WeightKind::kAttentionPostNorm, "post_attention_layernorm"},
      {WeightKind::kMlpNorm, "pre_feedforward_layernorm"},
      {WeightKind::kMlpPostNorm, "post_feedforward_layernorm"},
      {WeightKind::kQueryNorm, "self_attn.q_norm"},
      {WeightKind::kKeyNorm, "self_attn.k_norm"},
  };
  for (const auto& norm : norms) {
    const auto stored = Stored(
        "tiny-gemma3", absl::StrCat("model.layers.2.", norm.name, ".weight"));
    const auto read = Read(*model, norm.kind, 2);
    ASSERT_EQ(read.size(), stored.size());
    for (size_t i = 0; i < read.size(); ++i) {
      EXPECT_EQ(read[i], 1.0f + stored[i]) << norm.name;
    }
  }
  EXPECT_EQ(Read(*model, WeightKind::kFinalNorm, 0)[3],
            1.0f + Stored("tiny-gemma3", "model.norm.weight")[3]);
  EXPECT_EQ(Read(*model, WeightKind::kEmbedding, 0),
            Stored("tiny-gemma3", "model.embed_tokens.weight"));
}

TEST(FamilyModelsTest, Phi3sFusedWeightsAreRowsOfTheirTensors) {
  const auto model = Load("tiny-phi3");
  const auto fused =
      Stored("tiny-phi3", "model.layers.1.self_attn.qkv_proj.weight");
  std::vector<float> parts;
  for (const WeightKind kind :
       {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue}) {
    const auto part = Read(*model, kind, 1);
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_EQ(parts, fused);
  auto both = Read(*model, WeightKind::kGate, 1);
  const auto up = Read(*model, WeightKind::kUp, 1);
  both.insert(both.end(), up.begin(), up.end());
  EXPECT_EQ(both,
            Stored("tiny-phi3", "model.layers.1.mlp.gate_up_proj.weight"));
  EXPECT_THAT(PathsOfLayer(*model, 1),
              ElementsAre("model.layers.1.self_attn.o_proj 64>64",
                          "model.layers.1.mlp.down_proj 128>64",
                          "model.layers.1.self_attn.qkv_proj 64>128",
                          "model.layers.1.mlp.gate_up_proj 64>256"));
}

TEST(FamilyModelsTest, Gpt2sConv1dIsTransposedAndSplit) {
  const auto model = Load("tiny-gpt2");
  const auto fused = Stored("tiny-gpt2", "transformer.h.2.attn.c_attn.weight");
  const auto bias = Stored("tiny-gpt2", "transformer.h.2.attn.c_attn.bias");
  const WeightKind kinds[][2] = {{WeightKind::kQuery, WeightKind::kQueryBias},
                                 {WeightKind::kKey, WeightKind::kKeyBias},
                                 {WeightKind::kValue, WeightKind::kValueBias}};
  for (int part = 0; part < 3; ++part) {
    const auto weight = Read(*model, kinds[part][0], 2);
    const auto offsets = Read(*model, kinds[part][1], 2);
    for (int out = 0; out < 48; ++out) {
      EXPECT_EQ(offsets[out], bias[part * 48 + out]);
      for (int in = 0; in < 48; ++in) {
        ASSERT_EQ(weight[out * 48 + in], fused[in * 144 + part * 48 + out]);
      }
    }
  }
  const auto down = Read(*model, WeightKind::kDown, 0);
  const auto stored = Stored("tiny-gpt2", "transformer.h.0.mlp.c_proj.weight");
  EXPECT_EQ(down[5 * 192 + 7], stored[7 * 48 + 5]);
  EXPECT_EQ(Read(*model, WeightKind::kPositionEmbedding, 0),
            Stored("tiny-gpt2", "transformer.wpe.weight"));
  EXPECT_THAT(PathsOfLayer(*model, 0),
              ElementsAre("transformer.h.0.attn.c_proj 48>48",
                          "transformer.h.0.mlp.c_fc 48>192",
                          "transformer.h.0.mlp.c_proj 192>48",
                          "transformer.h.0.attn.c_attn 48>144"));
}

// A copy of a stored model, to be damaged.
class DamagedModelTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(
        testing::TempDir(), "descant_family_", getpid(), "_",
        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // With `edit` applied to each tensor; an empty name drops it.
  absl::StatusOr<LoadedModel> LoadEdited(
      const std::string& name,
      const std::function<void(SafetensorsEntry*)>& edit,
      std::vector<SafetensorsEntry> more = {}) {
    const std::string directory = folder_ + "/" + name;
    std::filesystem::remove_all(directory);
    std::filesystem::copy(ModelPath(name), directory);
    for (SafetensorsEntry& entry : EntriesOf(ModelPath(name))) {
      edit(&entry);
      if (!entry.name.empty()) more.push_back(std::move(entry));
    }
    std::ofstream(directory + "/model.safetensors", std::ios::binary)
        << WriteSafetensors(std::move(more));
    return LoadModel(directory);
  }

  std::string folder_;
};

TEST_F(DamagedModelTest, Gpt2WithoutPrefixAndWithItsMasksIsTheSameModel) {
  const auto original = Load("tiny-gpt2");
  std::vector<SafetensorsEntry> masks;
  for (int layer = 0; layer < 3; ++layer) {
    masks.push_back({absl::StrCat("h.", layer, ".attn.bias"),
                     Dtype::kF32,
                     {1, 1, 2, 2},
                     std::string(16, '\0')});
    masks.push_back({absl::StrCat("h.", layer, ".attn.masked_bias"),
                     Dtype::kF32,
                     {},
                     std::string(4, '\0')});
  }
  const auto bare = LoadEdited(
      "tiny-gpt2",
      [](SafetensorsEntry* entry) {
        entry->name = absl::StrReplaceAll(entry->name, {{"transformer.", ""}});
      },
      masks);
  ASSERT_TRUE(bare.ok()) << bare.status();
  EXPECT_EQ(bare->model->base_shape.fingerprint,
            original->base_shape.fingerprint);
  EXPECT_EQ(Read(*bare->model, WeightKind::kKey, 1),
            Read(*original, WeightKind::kKey, 1));
}

TEST_F(DamagedModelTest, TensorsAreRefusedByNameAndFamily) {
  const struct {
    const char* model;
    const char* tensor;
    std::function<void(SafetensorsEntry*)> edit;
    const char* message;
  } cases[] = {
      {"tiny-phi3", "model.layers.0.self_attn.qkv_proj.weight",
       [](SafetensorsEntry* e) { std::swap(e->shape[0], e->shape[1]); },
       "self_attn.qkv_proj.weight: shape [64, 128], must be [128, 64]"},
      {"tiny-gpt2", "transformer.h.0.mlp.c_fc.weight",
       [](SafetensorsEntry* e) { std::swap(e->shape[0], e->shape[1]); },
       "mlp.c_fc.weight: shape [192, 48], must be [48, 192]"},
      {"tiny-gpt2", "transformer.h.1.attn.c_attn.bias",
       [](SafetensorsEntry* e) {
         e->shape = {143};
         e->bytes.resize(286);
       },
       "attn.c_attn.bias: shape [143], must be [144]"},
      {"tiny-gpt2", "transformer.wpe.weight",
       [](SafetensorsEntry* e) { e->name.clear(); },
       "tensor transformer.wpe.weight is missing"},
      {"tiny-qwen2", "model.layers.2.self_attn.k_proj.bias",
       [](SafetensorsEntry* e) { e->name.clear(); },
       "tensor model.layers.2.self_attn.k_proj.bias is missing"},
      {"tiny-qwen3", "model.layers.0.self_attn.q_norm.weight",
       [](SafetensorsEntry* e) {
         e->shape = {16};
         e->bytes.resize(32);
       },
       "self_attn.q_norm.weight: shape [16], must be [32]"},
      {"tiny-gemma2", "model.layers.3.post_feedforward_layernorm.weight",
       [](SafetensorsEntry* e) { e->name = "model.layers.3.extra.weight"; },
       "post_feedforward_layernorm.weight is missing"},
      {"tiny-mistral", "lm_head.weight",
       [](SafetensorsEntry* e) { e->name.clear(); },
       "tensor lm_head.weight is missing"},
  };
  for (const auto& bad : cases) {
    bool found = false;
    const auto model = LoadEdited(bad.model, [&](SafetensorsEntry* entry) {
      if (entry->name != bad.tensor) return;
      found = true;
      bad.edit(entry);
    });
    EXPECT_TRUE(found) << bad.tensor;
    ASSERT_FALSE(model.ok()) << bad.message;
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(bad.message));
  }
  const SafetensorsEntry extra = {"model.layers.0.self_attn.q_proj.bias",
                                  Dtype::kF32,
                                  {2},
                                  std::string(8, '\0')};
  const struct {
    const char* model;
    const char* family;
  } families[] = {{"tiny-mistral", "MistralForCausalLM"},
                  {"tiny-gemma3", "Gemma3ForCausalLM"},
                  {"tiny-gpt2", "GPT2LMHeadModel"}};
  for (const auto& [name, family] : families) {
    const auto model = LoadEdited(name, [](SafetensorsEntry*) {}, {extra});
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(
        std::string(model.status().message()),
        HasSubstr(absl::StrCat("q_proj.bias does not belong to ", family)));
  }
}

TEST_F(DamagedModelTest, TheFingerprintCoversWhatIsComputed) {
  const auto original = Load("tiny-gemma2");
  const std::string directory = folder_ + "/tiny-gemma2";
  const std::string config =
      ReadFileOrDie(ModelPath("tiny-gemma2") + "/config.json");
  const std::pair<const char*, const char*> edits[] = {
      {"\"attn_logit_softcapping\": 2.0", "\"attn_logit_softcapping\": 3.0"},
      {"\"final_logit_softcapping\": 4.0", "\"final_logit_softcapping\": null"},
      {"\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 25"},
      {"\"sliding_window\": 32", "\"sliding_window\": 33"},
      {"gelu_pytorch_tanh", "silu"},
  };
  for (const auto& [from, to] : edits) {
    std::filesystem::remove_all(directory);
    std::filesystem::copy(ModelPath("tiny-gemma2"), directory);
    const std::string edited = absl::StrReplaceAll(config, {{from, to}});
    ASSERT_NE(edited, config) << from;
    std::ofstream(directory + "/config.json") << edited;
    const auto changed = LoadModel(directory);
    ASSERT_TRUE(changed.ok()) << changed.status();
    EXPECT_NE(changed->model->base_shape.fingerprint,
              original->base_shape.fingerprint)
        << to;
  }
}

// What PEFT saved for these modules is what the base model takes.
TEST(FamilyAdaptersTest, SixteenAdaptersOfRanks1To64FitEachFamily) {
  for (const char* name : kGoldenModels) {
    const GoldenFile golden = ReadGolden(name);
    const auto model = Load(golden.model);
    int32_t adapters = 0;
    for (const GoldenAdapter& entry : golden.adapters) {
      if (entry.kind == "base") continue;
      const auto adapter = MakeGoldenAdapter(entry, model->base_shape);
      ASSERT_TRUE(adapter.ok())
          << name << " " << entry.name << ": " << adapter.status();
      EXPECT_EQ((*adapter)->modules.size(), entry.tensors.size() / 2);
      ++adapters;
    }
    if (!absl::StrContains(name, "llama") || name == kGoldenModels[4]) {
      EXPECT_EQ(adapters, 16) << name;
    }
  }
}

std::string ReasonFor(const GoldenAdapter& golden, const Model& model) {
  const auto adapter = MakeGoldenAdapter(golden, model.base_shape);
  return adapter.ok() ? "OK" : std::string(ReasonOf(adapter.status()));
}

TEST(FamilyAdaptersTest, FusedModulesAreOneModule) {
  const auto phi3 = Load("tiny-phi3");
  const GoldenAdapter golden = ReadGolden("tiny_phi3").adapters[2];
  EXPECT_EQ(ReasonFor(golden, *phi3), "OK");
  GoldenAdapter bad = golden;
  for (auto& [name, shape] : bad.tensors) {
    if (absl::EndsWith(name, "0.self_attn.qkv_proj.lora_B.weight")) --shape[0];
  }
  EXPECT_EQ(ReasonFor(bad, *phi3), "ADAPTER_SHAPE");
  bad = golden;
  for (auto& [name, shape] : bad.tensors) {
    name = absl::StrReplaceAll(name, {{"qkv_proj", "q_proj"}});
  }
  EXPECT_EQ(ReasonFor(bad, *phi3), "ADAPTER_MODULE_UNKNOWN");
  // An adapter of q_proj and v_proj has no place here; nor has this one there.
  EXPECT_EQ(ReasonFor(ReadGolden("tiny_llama").adapters[1], *phi3),
            "ADAPTER_NO_MODULES");
  EXPECT_EQ(ReasonFor(golden, *Load("tiny-llama")), "ADAPTER_MODULE_UNKNOWN");
}

// PEFT corrects fan_in_fan_out to what the module is, whatever was saved.
TEST(FamilyAdaptersTest, FanInFanOutChangesNothing) {
  const auto gpt2 = Load("tiny-gpt2");
  const GoldenAdapter golden = ReadGolden("tiny_gpt2").adapters[1];
  ASSERT_THAT(golden.config_json, HasSubstr("\"fan_in_fan_out\":true"));
  const auto right = MakeGoldenAdapter(golden, gpt2->base_shape);
  ASSERT_TRUE(right.ok()) << right.status();
  GoldenAdapter other = golden;
  other.config_json = absl::StrReplaceAll(
      golden.config_json,
      {{"\"fan_in_fan_out\":true", "\"fan_in_fan_out\":false"}});
  const auto wrong = MakeGoldenAdapter(other, gpt2->base_shape);
  ASSERT_TRUE(wrong.ok()) << wrong.status();
  EXPECT_EQ((*right)->digest, (*wrong)->digest);
  other.config_json = absl::StrReplaceAll(
      golden.config_json,
      {{"\"fan_in_fan_out\":true", "\"fan_in_fan_out\":\"yes\""}});
  EXPECT_EQ(ReasonFor(other, *gpt2), "ADAPTER_CONFIG_INVALID");
}

}  // namespace
}  // namespace descant
