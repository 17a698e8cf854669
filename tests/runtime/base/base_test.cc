#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "runtime/base/checked_size.h"
#include "runtime/base/float16.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

TEST(CheckedSize, RemembersOverflow) {
  const CheckedSize max(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ((CheckedSize(3) * CheckedSize(4) + CheckedSize(5)).value(), 17u);
  EXPECT_FALSE((max + CheckedSize(1)).value().has_value());
  EXPECT_FALSE((CheckedSize(1ull << 32) * CheckedSize(1ull << 32)).value());
  EXPECT_FALSE((CheckedSize(1) - CheckedSize(2)).value().has_value());
  // An overflow is not healed by what follows.
  EXPECT_FALSE(((max + CheckedSize(1)) * CheckedSize(0)).value().has_value());
}

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(ToBFloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(ToBFloat16(1.0f + 0x1p-8f).bits, 0x3f80);  // tie, to even
  EXPECT_EQ(ToBFloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_EQ(ToBFloat16(1.0f + 0x1p-8f + 0x1p-20f).bits, 0x3f81);
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::infinity()).bits, 0x7f80);
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_TRUE(
      std::isnan(ToFloat(ToBFloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(BFloat16, RoundTripsEveryValue) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const BFloat16 value{static_cast<uint16_t>(bits)};
    if (std::isnan(ToFloat(value))) continue;
    ASSERT_EQ(ToBFloat16(ToFloat(value)).bits, bits);
  }
}

TEST(Float16, KnownValues) {
  EXPECT_EQ(ToFloat(Float16{0x3c00}), 1.0f);
  EXPECT_EQ(ToFloat(Float16{0xc000}), -2.0f);
  EXPECT_EQ(ToFloat(Float16{0x7bff}), 65504.0f);
  EXPECT_EQ(ToFloat(Float16{0x0001}), 0x1p-24f);
  EXPECT_EQ(ToFloat(Float16{0x83ff}), -1023 * 0x1p-24f);
  EXPECT_TRUE(std::isinf(ToFloat(Float16{0x7c00})));
  EXPECT_TRUE(std::isnan(ToFloat(Float16{0x7c01})));
}

TEST(Log, ClientStringsAreCutAndEscaped) {
  EXPECT_EQ(LogSafe("plain-name_1.0"), "plain-name_1.0");
  EXPECT_EQ(LogSafe("a\nb\x1b[0m"), "a\\nb\\x1b[0m");
  EXPECT_EQ(LogSafe(std::string(1000, 'x')), std::string(128, 'x') + "...");
}

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  DESCANT_ASSIGN_OR_RETURN(const int half, Half(value));
  DESCANT_RETURN_IF_ERROR(Half(half).status());
  return half / 2;
}

TEST(StatusMacros, ReturnEarly) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().message(), "odd");
  EXPECT_EQ(Quarter(7).status().message(), "odd");
}

}  // namespace
}  // namespace descant
