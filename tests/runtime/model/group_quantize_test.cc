// Rows taken over from stored blocks have the values of dequantize.cc, bit for
// bit; rows quantised at load are as near as their format allows.
#include "runtime/model/group_quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/base/float16.h"

namespace descant {
namespace {

using kernels::GroupFormat;
using kernels::kGroup;

constexpr GroupFormat kFormats[] = {GroupFormat::k4, GroupFormat::k4Min,
                                    GroupFormat::k8};

std::vector<float> ValuesOf(GroupFormat format, const GroupCodes& codes,
                            int64_t k) {
  std::vector<uint8_t> block(kernels::GroupBlockBytes(format, (k + 1) / 2));
  kernels::PackGroupRow(format, codes.row(), k, 5, block.data());
  std::vector<float> values(k);
  for (int64_t i = 0; i < k; ++i) {
    values[i] = kernels::UnpackGroup(format, block.data(), 5, i);
  }
  return values;
}

TEST(GroupQuantizeTest, TakesStoredBlocksAsTheyAre) {
  std::mt19937 random(20261124);
  std::normal_distribution<float> scale(0, 0.1f);
  for (const StorageType type :
       {StorageType::kQ4_0, StorageType::kQ4_1, StorageType::kQ8_0}) {
    const int64_t k = 6 * kGroup;
    const StorageTraits& traits = TraitsOf(type);
    std::vector<char> bytes(6 * traits.block_bytes);
    for (char& byte : bytes) byte = static_cast<char>(random());
    for (int i = 0; i < 6; ++i) {
      // Scales of both signs, one subnormal, one zero.
      for (int at = 0; at < (type == StorageType::kQ4_1 ? 2 : 1); ++at) {
        Float16 half = ToFloat16(scale(random));
        if (i == 1) half.bits = 0x0007;
        if (i == 2) half.bits = 0;
        std::memcpy(&bytes[i * traits.block_bytes + 2 * at], &half, 2);
      }
    }
    std::vector<float> expected(k);
    Dequantize(type, bytes, absl::MakeSpan(expected));
    int held = 0;
    for (const GroupFormat format : kFormats) {
      if (!HoldsStored(format, type)) continue;
      ++held;
      GroupCodes codes;
      TakeStored(format, type, bytes, &codes);
      EXPECT_EQ(expected, ValuesOf(format, codes, k)) << traits.name;
    }
    EXPECT_EQ(type == StorageType::kQ4_0 ? 3 : 1, held);
  }
  EXPECT_FALSE(HoldsStored(GroupFormat::k8, StorageType::kQ6_K));
}

TEST(GroupQuantizeTest, QuantizesWithinHalfAStep) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.01f, 0.05f);
  for (const int64_t k : {1, 31, 32, 33, 576}) {
    std::vector<float> values(k);
    for (float& value : values) value = normal(random);
    GroupCodes codes;
    QuantizeRow(GroupFormat::k8, values, &codes);
    const std::vector<float> eight = ValuesOf(GroupFormat::k8, codes, k);
    QuantizeRow(GroupFormat::k4Min, values, &codes);
    const std::vector<float> four = ValuesOf(GroupFormat::k4Min, codes, k);
    for (int64_t first = 0; first < k; first += kGroup) {
      const auto begin = values.begin() + first;
      const auto end = values.begin() + std::min(k, first + kGroup);
      const auto [least, most] = std::minmax_element(begin, end);
      const float magnitude = std::max(std::abs(*least), std::abs(*most));
      double error = 0;
      for (int64_t i = first; i < end - values.begin(); ++i) {
        EXPECT_NEAR(values[i], eight[i], magnitude * 0.0041f) << i;
        error += std::pow(values[i] - four[i], 2);
      }
      // At most that of sixteen even levels over the whole range, where every
      // weight is as far off as can be.
      const double half = (*most - *least) / 15 / 2 + magnitude * 5e-4;
      EXPECT_LE(error, (end - begin) * half * half);
    }
  }
}

TEST(GroupQuantizeTest, KeepsWhatItCanHold) {
  // Sixteen even levels, and a constant.
  std::vector<float> values(2 * kGroup, -0.75f);
  for (int i = 0; i < kGroup; ++i) values[i] = (i * 7 % 16) * 0.125f - 1;
  GroupCodes codes;
  QuantizeRow(GroupFormat::k4Min, values, &codes);
  EXPECT_EQ(values, ValuesOf(GroupFormat::k4Min, codes, 2 * kGroup));
  std::fill(values.begin(), values.end(), 0.0f);
  for (const GroupFormat format : {GroupFormat::k4Min, GroupFormat::k8}) {
    QuantizeRow(format, values, &codes);
    EXPECT_EQ(values, ValuesOf(format, codes, 2 * kGroup));
  }
}

TEST(GroupQuantizeTest, SearchingBeatsTheRangeAlone) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(64 * kGroup);
  for (float& value : values) value = normal(random);
  GroupCodes codes;
  QuantizeRow(GroupFormat::k4Min, values, &codes);
  const std::vector<float> found =
      ValuesOf(GroupFormat::k4Min, codes, values.size());
  double error = 0, plain = 0;
  for (size_t first = 0; first < values.size(); first += kGroup) {
    const auto [least, most] = std::minmax_element(
        values.begin() + first, values.begin() + first + kGroup);
    const float step = (*most - *least) / 15;
    for (size_t i = first; i < first + kGroup; ++i) {
      const float code = std::nearbyint((values[i] - *least) / step);
      plain += std::pow(values[i] - (code * step + *least), 2);
      error += std::pow(values[i] - found[i], 2);
    }
  }
  EXPECT_LT(error, 0.9 * plain);
}

}  // namespace
}  // namespace descant
