#include "adapters/formats/gguf.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

#include "tests/adapters/adapter_fixture.h"
#include "tests/adapters/gguf_writer.h"

namespace descant {
namespace {

GgufWriter GoodFile() {
  GgufWriter w;
  w.Head(2, 6);
  w.Key("general.architecture", GgufValueType::kString).Text("llama");
  w.Key("llama.block_count", GgufValueType::kUint32).Number<uint32_t>(30);
  w.Key("llama.eps", GgufValueType::kFloat32).Number(1e-5f);
  w.Key("tokens", GgufValueType::kArray)
      .Number(static_cast<uint32_t>(GgufValueType::kString))
      .Number<uint64_t>(2)
      .Text("a")
      .Text("bc");
  w.Key("types", GgufValueType::kArray)
      .Number(static_cast<uint32_t>(GgufValueType::kInt32))
      .Number<uint64_t>(2)
      .Number<int32_t>(1)
      .Number<int32_t>(-3);
  w.Key("flag", GgufValueType::kBool).Number<uint8_t>(1);
  w.Tensor("w", {32, 2}, 3, 0);  // Q4_1: 40 bytes
  w.Tensor("n", {4}, 0, 64);
  w.Data(64 + 16);
  return w;
}

std::string Parse(const GgufWriter& writer) {
  return Outcome(GgufIndex::Parse(BytesOf(writer.bytes_)).status());
}

std::string Refusal(const GgufWriter& writer) {
  EXPECT_EQ(Parse(writer), "INVALID_ARGUMENT GGUF_INVALID");
  return std::string(
      GgufIndex::Parse(BytesOf(writer.bytes_)).status().message());
}

TEST(GgufTest, ReadsAGoodFile) {
  const GgufWriter file = GoodFile();
  const auto index = GgufIndex::Parse(BytesOf(file.bytes_));
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->GetString("general.architecture"), "llama");
  EXPECT_EQ(index->GetInt("llama.block_count"), 30);
  EXPECT_FLOAT_EQ(static_cast<float>(*index->GetFloat("llama.eps")), 1e-5f);
  EXPECT_EQ(index->GetBool("flag"), true);
  ASSERT_EQ(index->GetStringArray("tokens")->size(), 2u);
  EXPECT_EQ((*index->GetStringArray("tokens"))[1], "bc");
  EXPECT_EQ(*index->GetIntArray("types"), (std::vector<int64_t>{1, -3}));
  EXPECT_FALSE(index->GetInt("general.architecture").has_value());
  EXPECT_FALSE(index->GetInt("missing").has_value());
  EXPECT_FALSE(index->GetFloatArray("types").has_value());
  const GgufTensor* w = index->FindTensor("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->type, GgufType::kQ4_1);
  EXPECT_EQ(w->columns(), 32u);
  EXPECT_EQ(w->rows(), 2u);
  EXPECT_EQ(w->bytes, 40u);
  EXPECT_EQ(w->begin % 32, 0u);
  EXPECT_EQ(index->FindTensor("x"), nullptr);
}

TEST(GgufTest, APrefixIsAnIndexOnceTheEntriesAreThere) {
  const GgufWriter file = GoodFile();
  const auto bytes = BytesOf(file.bytes_);
  const uint64_t header = GgufIndex::Parse(bytes)->header_bytes();
  EXPECT_LT(header, bytes.size());
  for (size_t size = 0; size <= bytes.size(); ++size) {
    const auto index =
        GgufIndex::ParsePrefix(bytes.subspan(0, size), bytes.size(), {});
    ASSERT_TRUE(index.ok()) << size << " " << index.status();
    ASSERT_EQ(index->has_value(), size >= header) << size;
    if (!index->has_value()) continue;
    EXPECT_EQ((*index)->header_bytes(), header);
    EXPECT_EQ((*index)->FindTensor("n")->bytes, 16u);
    EXPECT_EQ((*index)->Keys().size(), 6u);
    // A file that ends here has no place for the tensors.
    EXPECT_FALSE(
        GgufIndex::ParsePrefix(bytes.subspan(0, size), header, {}).ok());
  }
  GgufLimits limits;
  limits.max_tensors = 1;
  EXPECT_EQ(
      Outcome(GgufIndex::ParsePrefix(bytes.subspan(0, 24), bytes.size(), limits)
                  .status()),
      "INVALID_ARGUMENT GGUF_COUNT");
}

// Numbers, elements and bytes of a block: ggml's (GGML_QUANT_SIZES of the
// `gguf` package).
struct BlockType {
  uint32_t type;
  const char* name;
  uint32_t elements;
  uint32_t bytes;
};
constexpr BlockType kBlockTypes[] = {
    {0, "F32", 1, 4},       {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},
    {20, "IQ4_NL", 32, 18}, {23, "IQ4_XS", 256, 136}, {30, "BF16", 1, 2},
};

TEST(GgufTest, EveryTypeHasItsSize) {
  for (const BlockType& type : kBlockTypes) {
    SCOPED_TRACE(type.name);
    const uint64_t bytes = uint64_t{type.bytes} * 2 * 3;
    GgufWriter file;
    file.Head(1, 0);
    file.Tensor("w", {type.elements * 2, 3}, type.type, 0).Data(bytes);
    const auto index = GgufIndex::Parse(BytesOf(file.bytes_));
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->FindTensor("w")->bytes, bytes);
    EXPECT_EQ(FindGgufTypeTraits(type.type)->name, type.name);
    file.bytes_.pop_back();
    EXPECT_EQ(Refusal(file),
              "GGUF: a tensor's data lies "
              "beyond the end of the file");
    if (type.elements == 1) continue;
    GgufWriter ragged;
    ragged.Head(1, 0);
    ragged.Tensor("w", {type.elements + type.elements / 2, 2}, type.type, 0)
        .Data(bytes);
    EXPECT_EQ(Refusal(ragged),
              "GGUF: a tensor's dimensions do "
              "not fit its type");
  }
}

TEST(GgufTest, OtherTypesAreRefusedByName) {
  for (const auto& [type, text] :
       {std::pair<uint32_t, std::string>{15, "tensor type 15 (Q8_K) is not"},
        {16, "tensor type 16 (IQ2_XXS) is not"},
        {34, "tensor type 34 (TQ1_0) is not"},
        {39, "tensor type 39 (MXFP4) is not"},
        {4, "tensor type 4 is not"},
        {1000, "tensor type 1000 is not"}}) {
    GgufWriter file;
    file.Head(1, 0).Tensor("w", {256, 2}, type, 0).Data(4096);
    EXPECT_EQ(Refusal(file),
              "GGUF: " + text +
                  " supported; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, "
                  "Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS");
  }
}

TEST(GgufTest, EveryTruncationIsRefused) {
  const std::string file = GoodFile().bytes_;
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(GgufIndex::Parse(absl::MakeConstSpan(file.data(), size)).ok())
        << size;
  }
}

TEST(GgufTest, EveryBitFlipStaysInTheFile) {
  const std::string file = GoodFile().bytes_;
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto index = GgufIndex::Parse(BytesOf(flipped));
    if (!index.ok()) continue;
    for (const GgufTensor& tensor : index->tensors()) {
      ASSERT_LE(tensor.begin + tensor.bytes, flipped.size());
    }
  }
}

struct BadGguf {
  std::string what;
  GgufWriter file;
};

std::vector<BadGguf> BadFiles() {
  const auto tensor = [](std::vector<uint64_t> dims, uint32_t type,
                         uint64_t offset, size_t data = 128) {
    return GgufWriter()
        .Head(1, 0)
        .Tensor("t", std::move(dims), type, offset)
        .Data(data);
  };
  const auto value = [](GgufValueType type) {
    return GgufWriter().Head(0, 1).Key("k", type);
  };
  constexpr uint64_t kHuge = ~uint64_t{0};
  return {
      {"magic", GgufWriter().Raw("GGML").Raw(std::string(60, '\0'))},
      {"version 1", GgufWriter().Head(0, 0, 1).Data(32)},
      {"version 4", GgufWriter().Head(0, 0, 4).Data(32)},
      {"big-endian version", GgufWriter().Head(0, 0, 0x03000000).Data(32)},
      {"-1 tensors", GgufWriter().Head(kHuge, 0).Data(32)},
      {"-1 values", GgufWriter().Head(0, kHuge).Data(32)},
      {"key of -1 bytes", GgufWriter().Head(0, 1).Number(kHuge).Data(64)},
      {"empty key",
       GgufWriter().Head(0, 1).Key("", GgufValueType::kUint8).Data(64)},
      {"value type 13",
       GgufWriter().Head(0, 1).Text("k").Number<uint32_t>(13).Data(64)},
      {"string of -1 bytes",
       value(GgufValueType::kString).Number(kHuge).Data(64)},
      {"array of arrays", value(GgufValueType::kArray)
                              .Number<uint32_t>(9)
                              .Number<uint64_t>(1)
                              .Data(64)},
      {"array of 2^61 floats", value(GgufValueType::kArray)
                                   .Number<uint32_t>(6)
                                   .Number(uint64_t{1} << 61)
                                   .Data(64)},
      {"array of 2^62+1 u32, wraps to 4", value(GgufValueType::kArray)
                                              .Number<uint32_t>(4)
                                              .Number((uint64_t{1} << 62) + 1)
                                              .Data(64)},
      {"array of -1 strings",
       value(GgufValueType::kArray).Number<uint32_t>(8).Number(kHuge).Data(64)},
      {"duplicate key", GgufWriter()
                            .Head(0, 2)
                            .Key("k", GgufValueType::kUint8)
                            .Number<uint8_t>(1)
                            .Key("k", GgufValueType::kUint8)
                            .Number<uint8_t>(1)
                            .Data(32)},
      {"alignment 0", GgufWriter()
                          .Head(0, 1)
                          .Key("general.alignment", GgufValueType::kUint32)
                          .Number<uint32_t>(0)
                          .Data(32)},
      {"alignment 24", GgufWriter()
                           .Head(0, 1)
                           .Key("general.alignment", GgufValueType::kUint32)
                           .Number<uint32_t>(24)
                           .Data(32)},
      {"alignment text", GgufWriter()
                             .Head(0, 1)
                             .Key("general.alignment", GgufValueType::kString)
                             .Text("32")
                             .Data(32)},
      {"no dimension", tensor({}, 0, 0)},
      {"5 dimensions", tensor({1, 1, 1, 1, 1}, 0, 0)},
      {"dimension 0", tensor({4, 0}, 0, 0)},
      {"dimensions overflow",
       tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0)},
      {"bytes overflow", tensor({uint64_t{1} << 62, 2}, 0, 0)},
      {"unknown type", tensor({32}, 14, 0)},
      {"row is no whole block", tensor({33, 32}, 3, 0)},
      {"offset not aligned", tensor({4}, 0, 8)},
      {"offset wraps", tensor({4}, 0, kHuge - 31)},
      {"offset behind the file", tensor({4}, 0, 1 << 20)},
      {"data too short", tensor({32}, 0, 32, 64)},
      {"duplicate tensor", GgufWriter()
                               .Head(2, 0)
                               .Tensor("t", {1}, 0, 0)
                               .Tensor("t", {1}, 0, 0)
                               .Data(64)},
  };
}

TEST(GgufTest, BadFilesAreRefused) {
  for (const BadGguf& bad : BadFiles()) {
    EXPECT_EQ(Parse(bad.file), "INVALID_ARGUMENT GGUF_INVALID") << bad.what;
  }
}

// Also the one real file there is, which deploy/setup.sh fetches.
TEST(GgufTest, ReadsTheDemoModel) {
  const char* deps = std::getenv("DESCANT_DEPS_DIR");
  const std::string path = absl::StrCat(
      deps == nullptr ? "" : deps, "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
  ASSERT_TRUE(std::filesystem::exists(path)) << path;
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const GgufIndex& index = (*file)->index();
  EXPECT_EQ(index.GetString("general.architecture"), "llama");
  EXPECT_EQ(index.GetInt("llama.block_count"), 30);
  EXPECT_EQ(index.GetStringArray("tokenizer.ggml.tokens")->size(), 49152u);
  const GgufTensor* q = index.FindTensor("blk.0.attn_q.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->columns(), 576u);
  EXPECT_EQ(q->rows(), 576u);
  EXPECT_EQ((*file)->Bytes(*q).size(), 576u * 576 / 32 * 20);
}

}  // namespace
}  // namespace descant
