#include "adapters/formats/json.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

std::string Parse(absl::string_view text) {
  return Outcome(ParseJson(text, JsonLimits()).status());
}

TEST(JsonTest, KeepsOrderAndTellsNumbersApart) {
  const auto value =
      ParseJson(R"({"b":[8,8.0,-8,8e0,true,null,"x"],"a":{}})", JsonLimits());
  ASSERT_TRUE(value.ok()) << value.status();
  ASSERT_EQ(value->object()[0].first, "b");
  ASSERT_EQ(value->object()[1].first, "a");
  const auto& items = value->Find("b")->array();
  EXPECT_EQ(items[0].kind(), JsonValue::kUnsigned);
  EXPECT_EQ(items[0].unsigned_integer(), 8u);
  EXPECT_EQ(items[1].kind(), JsonValue::kFloat);
  EXPECT_EQ(items[2].negative_integer(), -8);
  EXPECT_EQ(items[3].number(), 8.0);
  EXPECT_TRUE(items[4].boolean());
  EXPECT_TRUE(items[5].is_null());
  EXPECT_EQ(items[6].string(), "x");
  EXPECT_EQ(value->Find("c"), nullptr);
}

TEST(JsonTest, RefusesWhatTheLibraryWouldTake) {
  const std::string invalid = "INVALID_ARGUMENT JSON_INVALID";
  EXPECT_EQ(Parse("\xef\xbb\xbf{}"), invalid);
  EXPECT_EQ(Parse(absl::string_view("{}\0", 3)), invalid);
  EXPECT_EQ(Parse(absl::string_view("{}\0x", 4)), invalid);
  EXPECT_EQ(Parse("{}x"), invalid);
  EXPECT_EQ(Parse(""), invalid);
  EXPECT_EQ(Parse("// c\n{}"), invalid);
  EXPECT_EQ(Parse("[1,]"), invalid);
  EXPECT_EQ(Parse("1e999"), invalid);
  EXPECT_EQ(Parse("NaN"), invalid);
  EXPECT_EQ(Parse("\"\xc3\x28\""), invalid);
  EXPECT_EQ(Parse(R"("\ud800")"), invalid);
  EXPECT_EQ(Parse(R"({"a":1,"a":2})"), "INVALID_ARGUMENT JSON_DUPLICATE_KEY");
}

TEST(JsonTest, CapsSizeDepthAndValues) {
  JsonLimits limits;
  limits.max_depth = 3;
  EXPECT_TRUE(ParseJson("[[[]]]", limits).ok());
  EXPECT_EQ(Outcome(ParseJson("[[[[]]]]", limits).status()),
            "INVALID_ARGUMENT JSON_TOO_DEEP");
  limits.max_values = 4;
  EXPECT_TRUE(ParseJson("[1,2,3]", limits).ok());
  EXPECT_EQ(Outcome(ParseJson("[1,2,3,4]", limits).status()),
            "INVALID_ARGUMENT JSON_TOO_LARGE");
  limits.max_bytes = 2;
  EXPECT_EQ(Outcome(ParseJson("[1]", limits).status()),
            "INVALID_ARGUMENT JSON_TOO_LARGE");
}

TEST(JsonTest, QuoteIsReadBack) {
  const std::string text("a\"\\\n\x01/\xc3\xa9", 8);
  const auto value = ParseJson(JsonQuote(text), JsonLimits());
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->string(), text);
}

}  // namespace
}  // namespace descant
