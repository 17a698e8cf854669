// Values and row orders against the `gguf` package and Transformers
// (tests/golden/make_dequant.py).
#include "runtime/model/dequantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "runtime/base/float16.h"
#include "runtime/model/file_weights.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using Json = nlohmann::json;

const Json& Golden() {
  static const Json* const golden = new Json(
      Json::parse(ReadFileOrDie(SourcePath("tests/golden/data/dequant.json"))));
  return *golden;
}

template <typename T>
std::vector<T> FromHex(const std::string& text) {
  const std::string bytes = absl::HexStringToBytes(text);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

StorageType TypeNamed(const std::string& name) {
  for (int i = 0; i < kStorageTypes; ++i) {
    const StorageType type = static_cast<StorageType>(i);
    if (name == TraitsOf(type).name) return type;
  }
  ADD_FAILURE() << name;
  return StorageType::kF32;
}

TEST(DequantizeTest, EveryBitEqualsTheGgufPackage) {
  ASSERT_EQ(Golden()["cases"].size(), size_t{kStorageTypes});
  for (const Json& entry : Golden()["cases"]) {
    SCOPED_TRACE(entry["type"].get<std::string>());
    const StorageType type = TypeNamed(entry["type"]);
    const std::vector<char> source = FromHex<char>(entry["bytes"]);
    const auto expected = FromHex<uint32_t>(entry["fp32"]);
    const auto rounded = FromHex<uint16_t>(entry["bf16"]);
    std::vector<float> values(expected.size());
    Dequantize(type, source, absl::MakeSpan(values));
    std::vector<BFloat16> brief(expected.size());
    DequantizeToBf16(type, source, absl::MakeSpan(brief));
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), expected[i]) << i;
      ASSERT_EQ(brief[i].bits, rounded[i]) << i;
    }
  }
}

TEST(DequantizeTest, RoundsAsTheScalarConversionDoes) {
  std::vector<float> values;
  for (const uint32_t high : {0u, 1u, 0x3f80u, 0x7f7fu, 0x7f80u, 0x7fbfu}) {
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      for (const uint32_t sign : {0u, 0x80000000u}) {
        values.push_back(std::bit_cast<float>(sign | high << 16 | low));
      }
    }
  }
  std::vector<BFloat16> rounded(values.size());
  DequantizeToBf16(StorageType::kF32,
                   {reinterpret_cast<const char*>(values.data()),
                    values.size() * sizeof(float)},
                   absl::MakeSpan(rounded));
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(rounded[i].bits, ToBFloat16(values[i]).bits)
        << std::hex << std::bit_cast<uint32_t>(values[i]);
  }
}

// A load turns every weight into bf16 once. The printed figure is for the log;
// the bound only catches a loop that fell back to one element at a time.
TEST(DequantizeTest, FastEnoughForLoads) {
  constexpr size_t kElements = 1 << 20;
  std::vector<BFloat16> values(kElements);
  for (int i = 0; i < kStorageTypes; ++i) {
    const StorageType type = static_cast<StorageType>(i);
    const StorageTraits& traits = TraitsOf(type);
    const std::vector<char> source(
        kElements / traits.block_elements * traits.block_bytes, 0x2c);
    double best = 1e9;
    for (int repetition = 0; repetition < 3; ++repetition) {
      const auto begin = std::chrono::steady_clock::now();
      DequantizeToBf16(type, source, absl::MakeSpan(values));
      const std::chrono::duration<double> spent =
          std::chrono::steady_clock::now() - begin;
      best = std::min(best, spent.count());
    }
    std::printf("%s: %.0f MB/s, %.0f M elements/s\n",
                std::string(traits.name).c_str(), source.size() / best / 1e6,
                kElements / best / 1e6);
    EXPECT_LT(best, 1.0) << traits.name;
  }
}

// A query whose row r holds the value r, stored in GGUF's order.
TEST(DequantizeTest, RowsOfQueryAndKeyComeBackInHuggingFaceOrder) {
  for (const Json& entry : Golden()["row_orders"]) {
    ModelConfig config;
    config.num_layers = 1;
    config.hidden_size = 32;
    config.intermediate_size = 32;
    config.num_heads = entry["heads"];
    config.num_kv_heads = config.num_heads;
    config.head_dim = entry["head_dim"];
    config.vocab_size = 1;
    const auto rows = entry["rows"].get<std::vector<int32_t>>();
    std::vector<float> stored;
    for (size_t row = 0; row < rows.size(); ++row) {
      stored.insert(stored.end(), 32, static_cast<float>(row));
    }
    StoredTensor tensor;
    tensor.interleaved_heads = config.num_heads;
    tensor.bytes = {reinterpret_cast<const char*>(stored.data()),
                    stored.size() * sizeof(float)};
    FileWeights weights(config);
    weights.Set(WeightKind::kQuery, 0, tensor);
    weights.Set(WeightKind::kKey, 0, tensor);
    std::vector<float> all(stored.size());
    ASSERT_TRUE(
        weights.ReadFp32(WeightKind::kQuery, 0, 0, absl::MakeSpan(all)).ok());
    // From the middle of a head on, as bf16.
    const int64_t from = config.head_dim / 2 - 1;
    std::vector<BFloat16> part(stored.size() - from * 32);
    ASSERT_TRUE(
        weights.ReadBf16(WeightKind::kKey, 0, from, absl::MakeSpan(part)).ok());
    for (size_t row = 0; row < rows.size(); ++row) {
      ASSERT_EQ(all[row * 32 + 31], rows[row]) << row;
      if (static_cast<int64_t>(row) >= from) {
        ASSERT_EQ(ToFloat(part[(row - from) * 32]),
                  ToFloat(ToBFloat16(static_cast<float>(rows[row]))));
      }
    }
  }
}

}  // namespace
}  // namespace descant
