#include "runtime/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/formats/safetensors.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/model/weight_source.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/adapters/golden_base.h"
#include "tests/runtime/model/gguf_builder.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using ::testing::HasSubstr;

class ModelTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "descant_model_" + std::to_string(getpid()) +
              "_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A copy of one of the oracle's models.
  std::string CopyModel(const std::string& name) {
    const std::string to = folder_ + "/" + name;
    std::filesystem::copy(SourcePath("tests/golden/models/" + name), to);
    return to;
  }
  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string folder_;
};

void ExpectRefusal(const std::string& path,
                   const std::vector<std::string>& parts) {
  const auto model = LoadModel(path);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument)
      << model.status();
  const std::string message(model.status().message());
  EXPECT_THAT(message, testing::StartsWith(path));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
}

TEST_F(ModelTest, LoadsAHuggingFaceDirectory) {
  const auto loaded = LoadModel(SourcePath("tests/golden/models/tiny-llama"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Model& model = *loaded->model;
  EXPECT_EQ(model.name, "tiny-llama");
  EXPECT_EQ(model.eos_token_ids, (std::vector<int32_t>{0, 2}));
  EXPECT_LE(loaded->tokenizer->vocab_size(), model.config.vocab_size);
  ASSERT_EQ(model.base_shape.modules.size(), 14u);
  const BaseModule& up = model.base_shape.modules[12];
  EXPECT_EQ(up.path, "model.layers.1.mlp.up_proj");
  EXPECT_EQ(up.in, 64);
  EXPECT_EQ(up.out, 128);
  EXPECT_EQ(up.layer, 1);
  EXPECT_EQ(up.kind, LinearKind::kUp);
  const BaseModule& query = model.base_shape.modules[0];
  EXPECT_EQ(query.path, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(query.out, 128);  // 4 heads of 32
  EXPECT_THAT(model.base_shape.fingerprint,
              testing::MatchesRegex("sha256:[0-9a-f]+"));
  EXPECT_EQ(model.base_shape.fingerprint.size(), 7u + 64u);
}

// What adapters/gguf_lora needs to know, from either kind of file; and the
// shapes that its own tests are made with are these.
TEST_F(ModelTest, KnowsHowGgufFilesStoreItsAdapters) {
  struct Case {
    const char* path;
    const char* folder;  // the same model in golden/models
    const char* architecture;
    int32_t query_heads;
    int32_t key_heads;
  };
  const Case cases[] = {{"models/tiny-llama", "tiny-llama", "llama", 4, 2},
                        {"gguf/llama-f16.gguf", "tiny-llama", "llama", 4, 2},
                        {"models/tiny-llama-untied-sharded",
                         "tiny-llama-untied-sharded", "llama", 4, 1},
                        {"models/tiny-mistral", "tiny-mistral", "llama", 4, 2},
                        {"gguf/mistral.gguf", "tiny-mistral", "llama", 4, 2},
                        {"models/tiny-qwen2", "tiny-qwen2", "qwen2", 0, 0},
                        {"models/tiny-qwen3", "tiny-qwen3", "qwen3", 0, 0},
                        {"models/tiny-gemma2", "tiny-gemma2", "gemma2", 0, 0},
                        {"models/tiny-gemma3", "tiny-gemma3", "gemma3", 0, 0},
                        {"models/tiny-phi3", "tiny-phi3", "phi3", 0, 0},
                        {"gguf/phi3.gguf", "tiny-phi3", "phi3", 0, 0}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.path);
    const auto loaded =
        LoadModel(SourcePath(absl::StrCat("tests/golden/", c.path)));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const BaseShape& shape = loaded->model->base_shape;
    EXPECT_EQ(shape.gguf_architecture, c.architecture);
    const BaseShape golden = GoldenBase(c.folder, c.architecture);
    ASSERT_EQ(shape.modules.size(), golden.modules.size());
    for (size_t i = 0; i < shape.modules.size(); ++i) {
      const BaseModule& module = shape.modules[i];
      EXPECT_EQ(module.path, golden.modules[i].path);
      EXPECT_EQ(module.in, golden.modules[i].in);
      EXPECT_EQ(module.out, golden.modules[i].out);
      EXPECT_EQ(module.layer, golden.modules[i].layer);
      EXPECT_EQ(module.kind, golden.modules[i].kind);
      EXPECT_EQ(module.gguf_interleaved_heads,
                module.kind == LinearKind::kQ   ? c.query_heads
                : module.kind == LinearKind::kK ? c.key_heads
                                                : 0);
      EXPECT_EQ(module.gguf_interleaved_heads,
                golden.modules[i].gguf_interleaved_heads);
    }
  }
  const auto gpt2 = LoadModel(SourcePath("tests/golden/models/tiny-gpt2"));
  ASSERT_TRUE(gpt2.ok());
  EXPECT_EQ(gpt2->model->base_shape.gguf_architecture, "");
}

TEST_F(ModelTest, TheFingerprintIsOfContentNotOfFiles) {
  const std::string directory = CopyModel("tiny-llama");
  const auto original = LoadModel(directory);
  ASSERT_TRUE(original.ok()) << original.status();
  const std::string fingerprint = original->model->base_shape.fingerprint;

  // The same tensors in two shards.
  const std::string whole = ReadFileOrDie(directory + "/model.safetensors");
  const auto index = ParseSafetensors(whole, SafetensorsLimits::BaseModel());
  ASSERT_TRUE(index.ok());
  std::vector<SafetensorsEntry> shards[2];
  std::string map;
  for (size_t i = 0; i < index->tensors.size(); ++i) {
    const SafetensorsTensor& tensor = index->tensors[i];
    shards[i % 2].push_back(
        {tensor.name, tensor.dtype,
         std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()),
         whole.substr(tensor.begin, tensor.bytes())});
    absl::StrAppend(&map, i == 0 ? "" : ",", "\"", tensor.name, "\":\"part",
                    i % 2, ".safetensors\"");
  }
  std::filesystem::remove(directory + "/model.safetensors");
  for (int i = 0; i < 2; ++i) {
    Write(absl::StrCat("tiny-llama/part", i, ".safetensors"),
          WriteSafetensors(shards[i]));
  }
  Write("tiny-llama/model.safetensors.index.json",
        "{\"weight_map\":{" + map + "}}");
  const auto sharded = LoadModel(directory);
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  EXPECT_EQ(sharded->model->base_shape.fingerprint, fingerprint);

  // One bit of one tensor.
  shards[0][0].bytes[0] ^= 1;
  Write("tiny-llama/part0.safetensors", WriteSafetensors(shards[0]));
  const auto changed = LoadModel(directory);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_NE(changed->model->base_shape.fingerprint, fingerprint);
}

TEST_F(ModelTest, RefusesBadTensorsByName) {
  const std::string directory = CopyModel("tiny-llama");
  const std::string file = directory + "/model.safetensors";
  const std::string whole = ReadFileOrDie(file);
  const auto index = ParseSafetensors(whole, SafetensorsLimits::BaseModel());
  ASSERT_TRUE(index.ok());
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsTensor& tensor : index->tensors) {
    entries.push_back(
        {tensor.name, tensor.dtype,
         std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()),
         whole.substr(tensor.begin, tensor.bytes())});
  }
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const auto with = [&](const std::function<void(SafetensorsEntry*)>& edit) {
    std::vector<SafetensorsEntry> edited = entries;
    for (SafetensorsEntry& entry : edited) {
      if (entry.name == name) edit(&entry);
    }
    Write("tiny-llama/model.safetensors", WriteSafetensors(edited));
  };
  with([](SafetensorsEntry* entry) {
    std::swap(entry->shape[0], entry->shape[1]);
    entry->shape = {entry->shape[0] / 2, entry->shape[1] * 2};
  });
  {
    const auto model = LoadModel(directory);
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(std::string(model.status().message()),
                testing::AllOf(HasSubstr(file), HasSubstr(name),
                               HasSubstr("must be [64, 64]")));
  }
  with([](SafetensorsEntry* entry) { entry->name += ".renamed"; });
  {
    const auto model = LoadModel(directory);
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(std::string(model.status().message()),
                testing::AllOf(HasSubstr(file), HasSubstr(name),
                               HasSubstr("is missing")));
  }
  std::vector<SafetensorsEntry> more = entries;
  more.push_back({"model.layers.0.self_attn.q_proj.bias",
                  Dtype::kF32,
                  {2},
                  std::string(8, '\0')});
  Write("tiny-llama/model.safetensors", WriteSafetensors(more));
  {
    const auto model = LoadModel(directory);
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(
        std::string(model.status().message()),
        testing::AllOf(HasSubstr("q_proj.bias"), HasSubstr("does not belong")));
  }
}

TEST_F(ModelTest, RefusesBadDirectories) {
  const auto missing = LoadModel(folder_ + "/none");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadModel(folder_).status().code(), absl::StatusCode::kNotFound);
  const std::string text = Write("model.txt", "hello");
  ExpectRefusal(text, {"neither a Hugging Face directory nor a .gguf"});
  const std::string broken = Write("broken.gguf", "GGUFnonsense");
  ExpectRefusal(broken, {});
  const std::string directory = CopyModel("tiny-llama-untied-sharded");
  Write("tiny-llama-untied-sharded/model.safetensors.index.json",
        R"({"weight_map": {"a": "../elsewhere.safetensors"}})");
  ExpectRefusal(directory, {"beside it"});
}

// A llama of one layer: 2 heads of 4, 1 kv head, hidden 8.
GgufBuilder TinyGguf() {
  GgufBuilder builder;
  builder.Set("general.architecture", std::string("llama"));
  builder.Set("llama.block_count", 1u);
  builder.Set("llama.embedding_length", 8u);
  builder.Set("llama.feed_forward_length", 16u);
  builder.Set("llama.attention.head_count", 2u);
  builder.Set("llama.attention.head_count_kv", 1u);
  builder.Set("llama.context_length", 128u);
  builder.Set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  builder.Set("tokenizer.ggml.model", std::string("gpt2"));
  builder.Set("tokenizer.ggml.pre", std::string("smollm"));
  builder.Set("tokenizer.ggml.tokens",
              std::vector<std::string>{"a", "b", "ab"});
  builder.Set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  builder.Set("tokenizer.ggml.eos_token_id", 2u);
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims) {
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    std::vector<float> values(count);
    for (uint64_t i = 0; i < count; ++i) values[i] = 0.01f * (i % 97);
    builder.SetTensor(name, dims, values);
  };
  add("token_embd.weight", {8, 3});
  add("output_norm.weight", {8});
  for (const char* norm : {"attn_norm", "ffn_norm"}) {
    add(absl::StrCat("blk.0.", norm, ".weight"), {8});
  }
  add("blk.0.attn_q.weight", {8, 8});
  add("blk.0.attn_k.weight", {8, 4});
  add("blk.0.attn_v.weight", {8, 4});
  add("blk.0.attn_output.weight", {8, 8});
  add("blk.0.ffn_gate.weight", {8, 16});
  add("blk.0.ffn_up.weight", {8, 16});
  add("blk.0.ffn_down.weight", {16, 8});
  return builder;
}

TEST_F(ModelTest, LoadsAGguf) {
  GgufBuilder builder = TinyGguf();
  builder.SetTensor("rope_freqs.weight", {2}, {1.0f, 4.0f});
  const auto loaded = LoadModel(Write("tiny.gguf", builder.Build()));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Model& model = *loaded->model;
  EXPECT_EQ(model.name, "tiny");
  EXPECT_EQ(model.config.head_dim, 4);
  EXPECT_EQ(model.config.vocab_size, 3);
  EXPECT_TRUE(model.config.tied_embeddings);
  EXPECT_EQ(model.eos_token_ids, std::vector<int32_t>{2});
  EXPECT_EQ(RopeInverseFrequencies(model.config.rope, model.config.head_dim)[1],
            0.01f / 4);
  // Rows of a head of 4 are stored 0 2 1 3.
  std::vector<float> query(64);
  ASSERT_TRUE(
      model.weights->ReadFp32(WeightKind::kQuery, 0, 0, absl::MakeSpan(query))
          .ok());
  const int stored_rows[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int row = 0; row < 8; ++row) {
    EXPECT_EQ(query[row * 8], 0.01f * (stored_rows[row] * 8)) << row;
  }
  // The value projection is not permuted.
  std::vector<float> value(32);
  ASSERT_TRUE(
      model.weights->ReadFp32(WeightKind::kValue, 0, 0, absl::MakeSpan(value))
          .ok());
  EXPECT_EQ(value[8], 0.08f);
}

TEST_F(ModelTest, RefusesBadGgufsByName) {
  using Edit = std::function<void(GgufBuilder*)>;
  const struct {
    const char* message;
    Edit edit;
  } cases[] = {
      {"unknown architecture \"mistral3\"; this server computes llama, qwen2, "
       "qwen3, gemma2, gemma3, phi3, gpt2",
       [](GgufBuilder* b) {
         b->Set("general.architecture", std::string("mistral3"));
       }},
      {"unknown architecture \"qwen3moe\" (experts are not supported)",
       [](GgufBuilder* b) {
         b->Set("general.architecture", std::string("qwen3moe"));
       }},
      {"key qwen2.block_count is missing",
       [](GgufBuilder* b) {
         b->Set("general.architecture", std::string("qwen2"));
       }},
      {"key llama.logit_scale is not supported",
       [](GgufBuilder* b) { b->Set("llama.logit_scale", 2.0f); }},
      {"key llama.attention.sliding_window is not supported",
       [](GgufBuilder* b) { b->Set("llama.attention.sliding_window", 64u); }},
      {"is a later part of a split model",
       [](GgufBuilder* b) {
         b->Set("split.count", 2u);
         b->Set("split.no", 1u);
       }},
      {"must end in -00001-of-00002.gguf",
       [](GgufBuilder* b) { b->Set("split.count", 2u); }},
      {"needs the tensors rope_factors_short.weight and",
       [](GgufBuilder* b) {
         b->Set("llama.rope.scaling.type", std::string("longrope"));
         b->Set("llama.rope.scaling.original_context_length", 64u);
       }},
      {"tensor blk.0.attn_norm.weight: a vector must be F32, F16 or BF16",
       [](GgufBuilder* b) {
         // Wide enough for a block.
         b->Set("llama.embedding_length", 32u);
         b->Set("llama.attention.key_length", 4u);
         b->SetTensor("token_embd.weight", {32, 3}, std::vector<float>(96));
         b->SetTensor("blk.0.attn_norm.weight", 8, {32}, std::string(34, '\0'));
       }},
      {"key llama.block_count is missing",
       [](GgufBuilder* b) { b->EraseKey("llama.block_count"); }},
      {"key llama.context_length must be a 31-bit integer",
       [](GgufBuilder* b) {
         b->Set("llama.context_length", std::string("long"));
       }},
      {"tensor blk.0.attn_q.weight: is missing",
       [](GgufBuilder* b) { b->EraseTensor("blk.0.attn_q.weight"); }},
      {"tensor blk.0.attn_v.weight: dimensions [4, 8], must be [8, 4]",
       [](GgufBuilder* b) {
         b->SetTensor("blk.0.attn_v.weight", {4, 8}, std::vector<float>(32));
       }},
      {"tensor blk.0.attn_k.bias: is missing",
       [](GgufBuilder* b) {
         b->SetTensor("blk.0.attn_q.bias", {8}, std::vector<float>(8));
       }},
      {"tensor blk.0.attn_q_norm.weight: does not belong to a llama model",
       [](GgufBuilder* b) {
         b->SetTensor("blk.0.attn_q_norm.weight", {4}, std::vector<float>(4));
       }},
      {"tensor rope_freqs.weight: must be F32 [2]",
       [](GgufBuilder* b) {
         b->SetTensor("rope_freqs.weight", {3}, std::vector<float>(3));
       }},
      {"experts are not supported",
       [](GgufBuilder* b) { b->Set("llama.expert_count", 8u); }},
      {"rope scaling \"ntk\" is not supported",
       [](GgufBuilder* b) {
         b->Set("llama.rope.scaling.type", std::string("ntk"));
       }},
      {"yarn_ext_factor other than 1",
       [](GgufBuilder* b) {
         b->Set("llama.rope.scaling.type", std::string("yarn"));
         b->Set("llama.rope.scaling.factor", 4.0f);
         b->Set("llama.rope.scaling.yarn_ext_factor", 0.5f);
       }},
      {"sizes of a head must be equal",
       [](GgufBuilder* b) { b->Set("llama.rope.dimension_count", 2u); }},
      {"llama.vocab_size differs from the 3 rows",
       [](GgufBuilder* b) { b->Set("llama.vocab_size", 4u); }},
      {"the tokenizer has 4 ids, the embedding only 3",
       [](GgufBuilder* b) {
         b->Set("tokenizer.ggml.tokens",
                std::vector<std::string>{"a", "b", "ab", "c"});
       }},
      {"llama9",
       [](GgufBuilder* b) {
         b->Set("tokenizer.ggml.pre", std::string("llama9"));
       }},
      {"end-of-sequence id outside [0, 3)",
       [](GgufBuilder* b) { b->Set("tokenizer.ggml.eot_token_id", 3u); }},
  };
  for (const auto& bad : cases) {
    SCOPED_TRACE(bad.message);
    GgufBuilder builder = TinyGguf();
    bad.edit(&builder);
    ExpectRefusal(Write("bad.gguf", builder.Build()), {bad.message});
  }
}

TEST_F(ModelTest, RefusesAnUnknownGgufType) {
  GgufBuilder builder = TinyGguf();
  builder.SetTensor("blk.0.attn_v.weight", 14, {256, 1},
                    std::string(210, '\0'));  // Q6_K
  ExpectRefusal(Write("bad.gguf", builder.Build()), {});
}

}  // namespace
}  // namespace descant
