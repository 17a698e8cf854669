// Exports of the tiny models, read back by our own loaders: what the adapter
// changed, what it left alone, shards, dtypes, and what is refused. (Against
// Transformers and PEFT: tests/golden/check_export.py.)
#include "runtime/model/export_checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/formats/safetensors.h"
#include "adapters/formats/safetensors_file_writer.h"
#include "adapters/validate.h"
#include "runtime/model/merged_weight_source.h"
#include "runtime/model/model.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/runtime/model/golden_cases.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

namespace stdfs = std::filesystem;

// On all linear modules, such that every weight of them changes.
std::shared_ptr<const Adapter> AdapterFor(const BaseShape& base,
                                          bool all_modules = true) {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : base.modules) {
    if (!all_modules && module.layer > 0) continue;
    modules.push_back({module.path, module.in, module.out});
  }
  RandomAdapterOptions options;
  options.rank = 4;
  options.alpha = 8;
  options.seed = 3;
  options.dtype = Dtype::kF32;
  const AdapterFiles files = MakeRandomAdapter(modules, options);
  auto adapter = MakeAdapter("", "a", files.config_json,
                             files.safetensors_bytes, base, AdapterLimits());
  EXPECT_TRUE(adapter.ok()) << adapter.status();
  return *std::move(adapter);
}

class ExportTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "descant_export_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    parent_ = pattern;
    out_ = parent_ + "/out";
  }
  void TearDown() override { stdfs::remove_all(parent_); }

  void Load(const std::string& path, bool all_modules = true) {
    LoadFrom(SourcePath("tests/golden/" + path), all_modules);
  }
  void LoadFrom(const std::string& path, bool all_modules = true) {
    const auto loaded = LoadModel(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    request_.model_path = path;
    request_.model = loaded->model;
    request_.adapter = AdapterFor(loaded->model->base_shape, all_modules);
    request_.directory = out_;
    tokenizer_ = loaded->tokenizer;
  }

  absl::StatusOr<CheckpointSummary> Export(Fs* fs,
                                           const CheckpointOptions& options) {
    return ExportMergedCheckpoint(fs, request_, options);
  }
  absl::StatusOr<CheckpointSummary> Export() { return Export(&fs_, {}); }

  // What is in the folder around the export.
  std::vector<std::string> Entries(const std::string& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : stdfs::directory_iterator(folder)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  PosixFs fs_;
  std::string parent_, out_;
  ExportRequest request_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

// name -> dtype and bytes, of all safetensors files of a folder.
using Tensors = std::map<std::string, std::pair<std::string, std::string>>;
Tensors ReadTensors(const std::string& folder) {
  Tensors tensors;
  for (const auto& entry : stdfs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto file = SafetensorsFile::Open(entry.path().string());
    EXPECT_TRUE(file.ok()) << file.status();
    for (const SafetensorsTensor& tensor : (*file)->index().tensors) {
      const auto bytes = (*file)->Bytes(tensor);
      tensors[tensor.name] = {std::string(tensor.dtype_name),
                              std::string(bytes.data(), bytes.size())};
    }
  }
  return tensors;
}

// Every weight of `found` in fp32 is `expected`'s.
void ExpectSameWeights(const ModelConfig& config, const WeightSource& expected,
                       const WeightSource& found, float tolerance) {
  for (int32_t i = 0; i < kWeightKinds; ++i) {
    const auto kind = static_cast<WeightKind>(i);
    if (!HasWeight(config, kind)) continue;
    const WeightShape shape = ShapeOf(config, kind);
    const int32_t layers = i < kLayerWeightKinds ? config.num_layers : 1;
    for (int32_t layer = 0; layer < layers; ++layer) {
      std::vector<float> a(shape.rows * shape.columns), b(a.size());
      ASSERT_TRUE(expected.ReadFp32(kind, layer, 0, absl::MakeSpan(a)).ok());
      ASSERT_TRUE(found.ReadFp32(kind, layer, 0, absl::MakeSpan(b)).ok());
      for (size_t j = 0; j < a.size(); ++j) {
        ASSERT_LE(std::abs(a[j] - b[j]), tolerance)
            << "kind " << i << ", layer " << layer << ", element " << j;
      }
    }
  }
}

void ExpectSameRope(const ModelConfig& expected, const ModelConfig& found) {
  for (int32_t layer = 0; layer < expected.num_layers; ++layer) {
    EXPECT_EQ(WindowOf(expected, layer), WindowOf(found, layer));
    const RopeConfig& one = RopeOf(expected, layer);
    const RopeConfig& other = RopeOf(found, layer);
    EXPECT_FLOAT_EQ(one.attention_factor, other.attention_factor);
    const auto a = RopeInverseFrequencies(one, expected.head_dim);
    const auto b = RopeInverseFrequencies(other, found.head_dim);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_NEAR(a[i], b[i], 1e-5f * a[i]) << layer << " " << i;
    }
  }
}

void ExpectSameConfig(const ModelConfig& expected, const ModelConfig& found) {
  EXPECT_EQ(expected.architecture, found.architecture);
  EXPECT_EQ(expected.num_layers, found.num_layers);
  EXPECT_EQ(expected.hidden_size, found.hidden_size);
  EXPECT_EQ(expected.intermediate_size, found.intermediate_size);
  EXPECT_EQ(expected.num_heads, found.num_heads);
  EXPECT_EQ(expected.num_kv_heads, found.num_kv_heads);
  EXPECT_EQ(expected.head_dim, found.head_dim);
  EXPECT_EQ(expected.vocab_size, found.vocab_size);
  EXPECT_EQ(expected.max_position, found.max_position);
  EXPECT_EQ(expected.tied_embeddings, found.tied_embeddings);
  EXPECT_EQ(expected.norm_eps, found.norm_eps);
  EXPECT_EQ(expected.activation, found.activation);
  EXPECT_EQ(expected.qkv_bias, found.qkv_bias);
  EXPECT_EQ(expected.out_bias, found.out_bias);
  EXPECT_EQ(expected.mlp_bias, found.mlp_bias);
  EXPECT_FLOAT_EQ(AttentionScale(expected), AttentionScale(found));
  EXPECT_FLOAT_EQ(expected.embedding_scale, found.embedding_scale);
  EXPECT_EQ(expected.attention_logit_cap, found.attention_logit_cap);
  EXPECT_EQ(expected.final_logit_cap, found.final_logit_cap);
  if (expected.position == PositionKind::kRope) ExpectSameRope(expected, found);
}

class HuggingFaceExportTest : public ExportTest,
                              public testing::WithParamInterface<const char*> {
};

TEST_P(HuggingFaceExportTest, ChangesTheAdaptersTensorsAndNoByteElse) {
  std::string model = GetParam();
  std::replace(model.begin(), model.end(), '_', '-');
  Load("models/" + model, /*all_modules=*/false);
  const auto summary = Export();
  ASSERT_TRUE(summary.ok()) << summary.status();
  const Tensors before = ReadTensors(request_.model_path);
  const Tensors after = ReadTensors(out_);
  ASSERT_EQ(before.size(), after.size());
  EXPECT_EQ(summary->tensors, static_cast<int64_t>(after.size()));
  int64_t changed = 0;
  for (const auto& [name, tensor] : before) {
    ASSERT_TRUE(after.contains(name)) << name;
    EXPECT_EQ(after.at(name).first, tensor.first) << name;
    if (after.at(name) == tensor) continue;
    ++changed;
    EXPECT_TRUE(absl::StrContains(name, ".0.")) << name;
  }
  EXPECT_EQ(changed, summary->merged);
  EXPECT_EQ(changed, static_cast<int64_t>(request_.adapter->modules.size()));
  for (const char* file :
       {"config.json", "generation_config.json", "tokenizer.json"}) {
    const std::string path = request_.model_path + "/" + file;
    if (!FileExists(path)) continue;
    EXPECT_EQ(ReadFileOrDie(path), ReadFileOrDie(out_ + "/" + file)) << file;
  }
  const auto loaded = LoadModel(out_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  // bf16 has 8 bits, and the weights are below 8.
  const MergedWeightSource merged(
      request_.model->config, request_.model->weights.get(), request_.adapter);
  ExpectSameWeights(request_.model->config, merged, *loaded->model->weights,
                    8 / 256.0f);
}

TEST_P(HuggingFaceExportTest, Fp32IsTheSumItself) {
  std::string model = GetParam();
  std::replace(model.begin(), model.end(), '_', '-');
  Load("models/" + model);
  request_.dtype = ExportDtype::kFp32;
  const auto summary = Export();
  ASSERT_TRUE(summary.ok()) << summary.status();
  for (const auto& [name, tensor] : ReadTensors(out_)) {
    EXPECT_EQ(tensor.first, "F32") << name;
  }
  EXPECT_TRUE(
      absl::StrContains(ReadFileOrDie(out_ + "/config.json"), "\"float32\""));
  const auto loaded = LoadModel(out_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const MergedWeightSource merged(
      request_.model->config, request_.model->weights.get(), request_.adapter);
  ExpectSameWeights(request_.model->config, merged, *loaded->model->weights, 0);
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFaceExportTest,
                         testing::ValuesIn(kGoldenModels));

// GPT-2's own checkpoints: the decoder without its head, and its masks.
TEST_F(ExportTest, NamesWithoutThePrefixAndMasksStay) {
  const std::string source = SourcePath("tests/golden/models/tiny-gpt2");
  const std::string bare = parent_ + "/bare";
  stdfs::create_directory(bare);
  for (const char* name : {"config.json", "tokenizer.json"}) {
    stdfs::copy_file(source + "/" + name, bare + "/" + name);
  }
  const auto file = SafetensorsFile::Open(source + "/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<SafetensorsSpec> specs = {{"h.0.attn.bias", "BOOL", {1, 7}, 7}};
  std::string bytes = "mask!!!";
  for (const SafetensorsTensor& tensor : (*file)->index().tensors) {
    specs.push_back(
        {std::string(absl::StripPrefix(tensor.name, "transformer.")),
         std::string(tensor.dtype_name),
         {tensor.shape.begin(), tensor.shape.end()},
         tensor.bytes()});
    const auto span = (*file)->Bytes(tensor);
    bytes.append(span.data(), span.size());
  }
  auto writer = SafetensorsFileWriter::Create(&fs_, bare + "/model.safetensors",
                                              specs, {});
  ASSERT_TRUE((*writer)->Append(bytes).ok());
  ASSERT_TRUE((*writer)->Finish().ok());

  LoadFrom(bare);
  for (const ExportDtype dtype : {ExportDtype::kAuto, ExportDtype::kFp16}) {
    request_.dtype = dtype;
    request_.directory = absl::StrCat(out_, static_cast<int>(dtype));
    const auto summary = Export();
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_EQ(summary->merged,
              static_cast<int64_t>(request_.adapter->modules.size()));
    const Tensors found = ReadTensors(request_.directory);
    EXPECT_EQ(found.size(), specs.size());
    EXPECT_EQ(found.at("h.0.attn.bias"),
              (std::pair<std::string, std::string>("BOOL", "mask!!!")));
    EXPECT_TRUE(found.contains("h.0.attn.c_attn.weight"));
    EXPECT_TRUE(LoadModel(request_.directory).ok());
  }
}

class GgufExportTest : public ExportTest,
                       public testing::WithParamInterface<const char*> {};

TEST_P(GgufExportTest, IsTheSameModelInHuggingFacesNames) {
  Load(absl::StrCat("gguf/", GetParam(), ".gguf"));
  const auto summary = Export();
  ASSERT_TRUE(summary.ok()) << summary.status();
  const auto loaded = LoadModel(out_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Model& found = *loaded->model;
  ExpectSameConfig(request_.model->config, found.config);
  EXPECT_EQ(found.eos_token_ids, request_.model->eos_token_ids);
  const MergedWeightSource merged(
      request_.model->config, request_.model->weights.get(), request_.adapter);
  // Gemma's norms are stored less 1, which rounds.
  ExpectSameWeights(request_.model->config, merged, *found.weights,
                    absl::StartsWith(GetParam(), "gemma") ? 1e-6f : 0);
  const char* text = "Two  spaces, 12345 and\n\n<|im_end|> a tail ";
  EXPECT_EQ(*tokenizer_->Encode(text), *loaded->tokenizer->Encode(text));
}

INSTANTIATE_TEST_SUITE_P(All, GgufExportTest,
                         testing::Values("llama-f32", "llama-f16", "llama-mix",
                                         "llama-bias",
                                         "llama-split-00001-of-00003",
                                         "llama-fused", "llama-rope-llama3",
                                         "mistral", "qwen2", "qwen3", "gemma2",
                                         "gemma3", "phi3", "gpt2"));

TEST_F(ExportTest, WhatHuggingFaceHasNoKeyForIsRefused) {
  Load("gguf/phi3-longrope.gguf");
  const absl::Status status = Export().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(absl::StrContains(status.message(), "rope scaling")) << status;
  EXPECT_TRUE(Entries(parent_).empty());
}

TEST_F(ExportTest, ShardsHaveAnIndex) {
  Load("models/tiny-llama");
  CheckpointOptions options;
  options.max_shard_bytes = 20000;
  const auto summary = Export(&fs_, options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_GT(summary->shards, 3);
  const std::string last = absl::StrFormat("model-%05d-of-%05d.safetensors",
                                           summary->shards, summary->shards);
  EXPECT_TRUE(FileExists(out_ + "/" + last)) << last;
  EXPECT_FALSE(FileExists(out_ + "/model.safetensors"));
  const std::string index =
      ReadFileOrDie(out_ + "/model.safetensors.index.json");
  EXPECT_TRUE(absl::StrContains(index, last));
  EXPECT_TRUE(absl::StrContains(
      index, absl::StrCat("\"total_size\": ", summary->bytes)));
  const auto whole = LoadModel(out_);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(ReadTensors(out_).size(), ReadTensors(request_.model_path).size());
}

TEST_F(ExportTest, ADirectoryWithSomethingInItIsRefused) {
  Load("models/tiny-llama");
  stdfs::create_directory(out_);
  EXPECT_TRUE(Export().ok()) << "an empty one is not";
  const auto before = Entries(out_);
  EXPECT_EQ(Export().status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Entries(out_), before);
  request_.directory = out_ + "/config.json";
  EXPECT_EQ(Export().status().code(), absl::StatusCode::kAlreadyExists);
  request_.directory = parent_ + "/not/there";
  EXPECT_EQ(Export().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Entries(parent_), std::vector<std::string>{"out"});
}

// Every call of the file system fails once.
TEST_F(ExportTest, IsThereWholeOrNotAtAll) {
  Load("models/tiny-llama");
  CheckpointOptions options;
  options.max_shard_bytes = 100000;
  FaultFs counting(&fs_);
  ASSERT_TRUE(Export(&counting, options).ok());
  const auto whole = Entries(out_);
  const int64_t calls = counting.calls();
  ASSERT_GT(calls, 20);
  stdfs::remove_all(out_);
  int64_t left = 0;
  for (int64_t call = 0; call < calls; ++call) {
    FaultFs failing(&fs_);
    failing.FailCall(call, absl::ResourceExhaustedError("disk full"));
    const absl::Status status = Export(&failing, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << call;
    const auto entries = Entries(parent_);
    if (entries.empty()) continue;
    // The last call is the sync of the parent, behind the rename.
    ASSERT_EQ(entries, std::vector<std::string>{"out"}) << call;
    EXPECT_EQ(Entries(out_), whole) << call;
    stdfs::remove_all(out_);
    ++left;
  }
  EXPECT_EQ(left, 1);
}

TEST_F(ExportTest, CanBeStopped) {
  Load("models/tiny-llama");
  CheckpointOptions options;
  int asked = 0;
  options.may_go_on = [&asked]() -> absl::Status {
    return ++asked < 5 ? absl::OkStatus() : absl::UnavailableError("stop");
  };
  EXPECT_EQ(Export(&fs_, options).status(), absl::UnavailableError("stop"));
  EXPECT_TRUE(Entries(parent_).empty());
}

// A sum beyond fp16's 65504.
TEST_F(ExportTest, AValueThatTheDtypeHasNotIsRefused) {
  Load("models/tiny-llama");
  auto large = std::make_shared<Adapter>(*request_.adapter);
  for (AdapterModule& module : large->modules) module.scale = 1e9f;
  request_.adapter = large;
  request_.dtype = ExportDtype::kFp16;
  const absl::Status status = Export().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "_proj.weight")) << status;
  EXPECT_TRUE(Entries(parent_).empty());
  request_.dtype = ExportDtype::kBf16;
  EXPECT_TRUE(Export().ok());
}

}  // namespace
}  // namespace descant
