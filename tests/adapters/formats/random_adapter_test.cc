#include "adapters/formats/random_adapter.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "adapters/formats/json.h"
#include "adapters/formats/safetensors.h"
#include "runtime/base/float16.h"
#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

// The values of the Python twin.
TEST(RandomAdapterTest, EqualsThePythonTwin) {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  ASSERT_NE(root, nullptr);
  std::ifstream file(
      absl::StrCat(root, "/tests/golden/data/random_adapter.json"));
  std::stringstream text;
  text << file.rdbuf();
  const auto golden = ParseJson(text.str(), JsonLimits());
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_FALSE(golden->array().empty());
  for (const JsonValue& tensor : golden->array()) {
    const auto& fp32 = tensor.Find("float32_bits")->array();
    const auto& bf16 = tensor.Find("bfloat16_bits")->array();
    const std::vector<float> values = RandomTensor(
        tensor.Find("name")->string(), fp32.size(),
        tensor.Find("seed")->unsigned_integer(), tensor.Find("std")->number());
    for (size_t i = 0; i < fp32.size(); ++i) {
      EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), fp32[i].unsigned_integer());
      EXPECT_EQ(ToBFloat16(values[i]).bits, bf16[i].unsigned_integer());
    }
  }
}

TEST(RandomAdapterTest, HasTheAskedDeviation) {
  const std::vector<float> values = RandomTensor("t", 100'000, 7, 0.02);
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  EXPECT_NEAR(sum / values.size(), 0, 3e-4);
  EXPECT_NEAR(std::sqrt(squares / values.size()), 0.02, 3e-4);
}

TEST(RandomAdapterTest, WritesReadableFilesOfEachType) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
    const AdapterFiles files = TinyAdapter(3, dtype);
    const auto index =
        ParseSafetensors(BytesOf(files.safetensors_bytes), SafetensorsLimits());
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->tensors.size(), 8u);
    EXPECT_EQ(index->tensors[0].dtype, dtype);
  }
}

TEST(Float16Test, RoundsEveryHalfBackToItself) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Float16 half{static_cast<uint16_t>(bits)};
    const float value = ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToFloat16(value))));
    } else {
      EXPECT_EQ(ToFloat16(value).bits, bits);
    }
  }
}

TEST(Float16Test, RoundsTiesToEvenAndSaturatesToInfinity) {
  EXPECT_EQ(ToFloat16(1.0f + 0x1p-11f).bits, 0x3c00);
  EXPECT_EQ(ToFloat16(1.0f + 3 * 0x1p-11f).bits, 0x3c02);
  EXPECT_EQ(ToFloat16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(ToFloat16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(ToFloat16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(ToFloat16(0x1p-25f).bits, 0);
  EXPECT_EQ(ToFloat16(0x1.8p-25f).bits, 1);
}

}  // namespace
}  // namespace descant
