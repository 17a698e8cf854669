#include "adapters/gguf_lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/base/log.h"
#include "tests/adapters/gguf_lora_fixture.h"
#include "tests/adapters/golden_base.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// PEFT's files and the GGUF file that llama.cpp's converter made of them.
struct Golden {
  const char* name;
  const char* model;
  const char* architecture;
};
constexpr Golden kGolden[] = {
    {"llama-f32", "tiny-llama", "llama"},
    {"llama-f16", "tiny-llama", "llama"},
    {"llama-bf16", "tiny-llama", "llama"},
    {"llama-one-kv", "tiny-llama-untied-sharded", "llama"},
    {"mistral", "tiny-mistral", "llama"},
    {"qwen2", "tiny-qwen2", "qwen2"},
    {"qwen3", "tiny-qwen3", "qwen3"},
    {"gemma2", "tiny-gemma2", "gemma2"},
    {"gemma3", "tiny-gemma3", "gemma3"},
    {"phi3", "tiny-phi3", "phi3"},
};

class GgufLoraGoldenTest : public testing::TestWithParam<Golden> {
 protected:
  static std::string File(const std::string& ending) {
    return ReadGoldenText(absl::StrCat("gguf_lora/", GetParam().name, ending));
  }
};

// llama.cpp's scale of a tensor: alpha / rank in float, whatever PEFT says.
float LlamaCppScale(const PeftConfig& config, int32_t rank) {
  return static_cast<float>(config.lora_alpha) / static_cast<float>(rank);
}

TEST_P(GgufLoraGoldenTest, GivesPeftsFilesBack) {
  const BaseShape base = GoldenBase(GetParam().model, GetParam().architecture);
  const std::string original = File(".safetensors");
  const auto expected = [&] {
    auto validator = AdapterValidator::Create(File(".json"), original.size(),
                                              &base, AdapterLimits());
    EXPECT_TRUE(validator.ok()) << validator.status();
    EXPECT_TRUE((*validator)->Append(BytesOf(original)).ok());
    return (*validator)->Finish();
  }();
  ASSERT_TRUE(expected.ok()) << expected.status();

  const auto pair = ReadGgufLora(File(".gguf"), base);
  ASSERT_TRUE(pair.ok()) << pair.status();
  ASSERT_EQ(pair->validated.modules.size(), expected->modules.size());
  for (size_t i = 0; i < expected->modules.size(); ++i) {
    const ValidatedModule& want = expected->modules[i];
    const ValidatedModule& got = pair->validated.modules[i];
    EXPECT_EQ(got.layer, want.layer);
    EXPECT_EQ(got.kind, want.kind);
    EXPECT_EQ(got.rank, want.rank);
    EXPECT_EQ(got.scale, want.scale);
    EXPECT_EQ(got.scale, LlamaCppScale(expected->config, want.rank));
  }
  ASSERT_EQ(pair->validated.index.tensors.size(),
            expected->index.tensors.size());
  for (size_t i = 0; i < expected->index.tensors.size(); ++i) {
    const SafetensorsTensor& want = expected->index.tensors[i];
    const SafetensorsTensor& got = pair->validated.index.tensors[i];
    EXPECT_EQ(got.name, want.name);
    EXPECT_EQ(got.dtype, want.dtype);
    EXPECT_EQ(got.shape, want.shape);
    EXPECT_TRUE(pair->safetensors.substr(got.begin, got.bytes()) ==
                original.substr(want.begin, want.bytes()))
        << want.name;
  }
  const auto config = ParsePeftConfig(pair->config_json, kMaxRank);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->base_model_name, HasSubstr("Tiny"));
}

TEST_P(GgufLoraGoldenTest, ChunkingChangesNothing) {
  const BaseShape base = GoldenBase(GetParam().model, GetParam().architecture);
  const std::string file = File(".gguf");
  const auto whole = ReadGgufLora(file, base);
  ASSERT_TRUE(whole.ok());
  for (const size_t chunk : {1, 7, 64, 1000}) {
    const auto pieces = ReadGgufLora(file, base, chunk);
    ASSERT_TRUE(pieces.ok()) << chunk << " " << pieces.status();
    EXPECT_TRUE(pieces->safetensors == whole->safetensors) << chunk;
    EXPECT_EQ(pieces->config_json, whole->config_json);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufLoraGoldenTest, testing::ValuesIn(kGolden),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Where the config is written as people write it, the two uploads are one
// version.
TEST(GgufLoraTest, TheDigestIsThatOfThePeftFiles) {
  const BaseShape base = GoldenBase("tiny-llama", "llama");
  const std::string original =
      ReadGoldenText("gguf_lora/llama-f16.safetensors");
  auto validator = AdapterValidator::Create(
      ReadGoldenText("gguf_lora/llama-f16.json"), original.size(), &base, {});
  ASSERT_TRUE((*validator)->Append(BytesOf(original)).ok());
  const auto pair =
      ReadGgufLora(ReadGoldenText("gguf_lora/llama-f16.gguf"), base);
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(pair->validated.digest, (*validator)->Finish()->digest);
}

// The converter's file has A and B in each other's place.
TEST(GgufLoraTest, Gpt2IsRefused) {
  BaseShape base;
  for (int32_t layer = 0; layer < 3; ++layer) {
    base.modules.push_back(
        {absl::StrCat("transformer.h.", layer, ".attn.c_attn"), 48, 144, layer,
         LinearKind::kQkv});
  }
  const std::string file = ReadGoldenText("gguf_lora/gpt2.gguf");
  EXPECT_EQ(Outcome(ReadGgufLora(file, base).status()),
            "INVALID_ARGUMENT GGUF_ARCHITECTURE");
  base.gguf_architecture = "gpt2";
  EXPECT_EQ(Outcome(ReadGgufLora(file, base).status()),
            "INVALID_ARGUMENT ADAPTER_SHAPE");
}

absl::StatusOr<GgufLoraPair> Read(const GgufLoraDraft& draft,
                                  size_t chunk = 1 << 20) {
  static const auto* base = new BaseShape(TinyLlamaBase());
  return ReadGgufLora(draft.Write(), *base, chunk);
}

std::string Check(const GgufLoraDraft& draft) {
  return Outcome(Read(draft).status());
}

TEST(GgufLoraTest, Alpha0IsScale1WhateverTheRank) {
  for (const bool missing : {false, true}) {
    GgufLoraDraft draft;
    draft.values.pop_back();
    if (!missing) draft.Alpha(-0.0f);
    draft.Module("blk.0.attn_v.weight", 8, 4, 1);
    draft.Module("blk.1.attn_v.weight", 8, 4, 3);
    draft.Module("blk.1.ffn_up.weight", 8, 12, 2);
    const auto pair = Read(draft);
    ASSERT_TRUE(pair.ok()) << pair.status();
    for (const ValidatedModule& module : pair->validated.modules) {
      EXPECT_EQ(module.scale, 1.0f);
    }
  }
}

TEST(GgufLoraTest, AnyAlphaIsExact) {
  for (const float alpha : {0.1f, 1.0f / 3, -2.5f, 1e-20f, 3e20f}) {
    GgufLoraDraft draft;
    draft.values.pop_back();
    draft.Alpha(alpha);
    draft.Module("blk.0.attn_v.weight", 8, 4, 3);
    const auto pair = Read(draft);
    ASSERT_TRUE(pair.ok()) << pair.status();
    EXPECT_EQ(pair->validated.modules[0].scale, alpha / 2.0f);
    EXPECT_EQ(pair->validated.modules[1].scale, alpha / 3.0f);
  }
}

// A writer may leave out dimensions of 1 at the end, or write them.
TEST(GgufLoraTest, Rank1MayHaveOneDimension) {
  GgufLoraDraft draft;
  draft.tensors.clear();
  draft.Add("blk.0.attn_q.weight.lora_a", {8});
  draft.Add("blk.0.attn_q.weight.lora_b", {1, 8, 1, 1});
  EXPECT_EQ(Check(draft), "OK");
  draft.tensors[0].dims = {8, 1, 2};
  draft.tensors[0].bytes += draft.tensors[0].bytes;
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT ADAPTER_SHAPE");
}

TEST(GgufLoraTest, NoPaddingAfterTheLastTensorIsNeeded) {
  GgufLoraDraft draft;
  draft.Module("blk.0.attn_v.weight", 8, 4, 3);
  std::string file = draft.Write();
  file.resize(file.size() - 16);  // B has 48 bytes of 64
  EXPECT_EQ(Outcome(ReadGgufLora(file, TinyLlamaBase()).status()), "OK");
  file.pop_back();
  EXPECT_EQ(Outcome(ReadGgufLora(file, TinyLlamaBase()).status()),
            "INVALID_ARGUMENT GGUF_INVALID");
  file.resize(file.size() + 2);
  EXPECT_EQ(Outcome(ReadGgufLora(file, TinyLlamaBase()).status()),
            "INVALID_ARGUMENT GGUF_LAYOUT");
}

TEST(GgufLoraTest, TensorsMayStandInAnyOrder) {
  GgufLoraDraft draft;
  draft.Module("blk.1.ffn_down.weight", 12, 8, 1);
  std::swap(draft.tensors[0], draft.tensors[3]);
  EXPECT_EQ(Check(draft), "OK");
  draft.alignment = 256;
  draft.values.push_back([](GgufWriter* file) {
    file->Key("general.alignment", GgufValueType::kUint32)
        .Number<uint32_t>(256);
  });
  EXPECT_EQ(Check(draft), "OK");
}

// Ranks of their own in a large model: the config stays within its bounds.
TEST(GgufLoraTest, ManyRanks) {
  BaseShape base;
  base.gguf_architecture = "qwen3";
  base.fingerprint = "sha256:deep";
  GgufLoraDraft draft;
  draft.tensors.clear();
  draft.values[0] = [](GgufWriter* file) {
    file->Key("general.architecture", GgufValueType::kString).Text("qwen3");
  };
  const std::pair<const char*, const char*> names[] = {
      {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
      {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (int32_t layer = 0; layer < 80; ++layer) {
    for (int32_t kind = 0; kind < 7; ++kind) {
      base.modules.push_back(
          {absl::StrCat("model.layers.", layer, ".", names[kind].first), 4, 4,
           layer, static_cast<LinearKind>(kind)});
      draft.Module(
          absl::StrCat("blk.", layer, ".", names[kind].second, ".weight"), 4, 4,
          1 + static_cast<uint64_t>(layer * 7 + kind) % 23);
    }
  }
  const auto pair = ReadGgufLora(draft.Write(), base, 1000);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->config_json,
              HasSubstr(R"("target_modules":["down_proj","gate_proj")"));
  for (const ValidatedModule& module : pair->validated.modules) {
    const int32_t rank =
        1 + (module.layer * 7 + static_cast<int32_t>(module.kind)) % 23;
    EXPECT_EQ(module.rank, rank);
    EXPECT_EQ(module.scale, 4.0f / static_cast<float>(rank));
  }
}

TEST(GgufLoraTest, Sizes) {
  const BaseShape base = TinyLlamaBase();
  EXPECT_EQ(Outcome(GgufLoraReader::Create(0, &base, {}).status()),
            "INVALID_ARGUMENT UPLOAD_SIZE_MISSING");
  EXPECT_EQ(Outcome(GgufLoraReader::Create(UINT64_MAX, &base, {}).status()),
            "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE");
  const std::string file = GgufLoraDraft().Write();
  auto reader = GgufLoraReader::Create(file.size(), &base, {});
  std::string out;
  EXPECT_FALSE((*reader)->header_done());
  ASSERT_TRUE((*reader)->Append(BytesOf(file).subspan(1), &out).ok() == false);
  EXPECT_EQ(Outcome((*reader)->Append(BytesOf(file), &out)),
            "INVALID_ARGUMENT GGUF_INVALID");
  EXPECT_EQ(Outcome((*reader)->Finish()), "INVALID_ARGUMENT GGUF_INVALID");

  reader = GgufLoraReader::Create(file.size(), &base, {});
  ASSERT_TRUE(
      (*reader)->Append(BytesOf(file).subspan(0, file.size() - 1), &out).ok());
  EXPECT_TRUE((*reader)->header_done());
  EXPECT_EQ(Outcome((*reader)->Finish()), "INVALID_ARGUMENT UPLOAD_TRUNCATED");

  reader = GgufLoraReader::Create(file.size(), &base, {});
  ASSERT_TRUE((*reader)->Append(BytesOf(file), &out).ok());
  const std::string over = "x";
  EXPECT_EQ(Outcome((*reader)->Append(BytesOf(over), &out)),
            "INVALID_ARGUMENT UPLOAD_OVERRUN");
}

TEST(GgufLoraTest, TheHeaderIsCapped) {
  GgufLoraDraft draft;
  draft.Text("general.description", std::string(1 << 20, 'x'));
  EXPECT_EQ(Check(draft), "INVALID_ARGUMENT GGUF_HEADER_LENGTH");
  EXPECT_EQ(Outcome(Read(draft, 4097).status()),
            "INVALID_ARGUMENT GGUF_HEADER_LENGTH");
  draft.values.pop_back();
  draft.Text("general.description", std::string(1 << 19, 'x'));
  EXPECT_EQ(Check(draft), "OK");
}

// What is kept is a file of our own: nothing else of the upload is in it.
TEST(GgufLoraTest, NothingOfTheMetadataIsKept) {
  GgufLoraDraft draft;
  draft.Text("general.description", "PK\x03\x04 hidden");
  draft.Text("general.base_model.0.name", "a \"name\"\n\xff");
  const auto pair = Read(draft);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->safetensors, Not(HasSubstr("hidden")));
  EXPECT_THAT(pair->config_json, Not(HasSubstr("\n")));
  EXPECT_THAT(pair->config_json, Not(HasSubstr("\xff")));
  const auto config = ParsePeftConfig(pair->config_json, kMaxRank);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->base_model_name, LogSafe("a \"name\"??"));
}

}  // namespace
}  // namespace descant
