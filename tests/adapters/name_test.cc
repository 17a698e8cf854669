// Rows 20 to 25 of the bad-input table (23 is answered by the library).
#include "adapters/name.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

constexpr char kInvalid[] = "INVALID_ARGUMENT ADAPTER_NAME_INVALID";

std::string Check(absl::string_view name) {
  return Outcome(ValidateAdapterName(name, "SmolLM2"));
}

TEST(NameTest, AcceptsTheGrammar) {
  for (const char* name : {"a", "0", "A.b_c-d", "sql-v1.2", "x.", "a-"}) {
    EXPECT_EQ(Check(name), "OK") << name;
  }
  EXPECT_EQ(Check(std::string(63, 'a')), "OK");
}

TEST(NameTest, Row20Empty) {
  for (const char* name : {"", " ", "\t", "\n", "a b", "a\n"}) {
    EXPECT_EQ(Check(name), kInvalid) << name;
  }
}

TEST(NameTest, Row21Paths) {
  for (const char* name : {"..", "../etc", "a/../b", "/etc/passwd", "a/",
                           "a\\b", "%2e%2e", "a..b", ".", ".a", "-a", "_a"}) {
    EXPECT_EQ(Check(name), kInvalid) << name;
  }
}

TEST(NameTest, Row22ControlAndOtherCharacters) {
  for (const absl::string_view name :
       {absl::string_view("a\0b", 3), absl::string_view("\0", 1),
        absl::string_view("a\x01"), absl::string_view("\x1b[31mred"),
        absl::string_view("\xe2\x80\xae"
                          "abc"),
        absl::string_view("a\xf0\x9f\x98\x80"), absl::string_view("\xff"),
        absl::string_view("\xc3\xa9")}) {
    EXPECT_EQ(Check(name), kInvalid);
  }
}

TEST(NameTest, Row24TooLong) {
  EXPECT_EQ(Check(std::string(64, 'a')), kInvalid);
  EXPECT_EQ(Check(std::string(1 << 20, 'a')), kInvalid);
}

TEST(NameTest, Row25Reserved) {
  for (const char* name :
       {"base", "none", "Base", "NONE", "SmolLM2", "smollm2"}) {
    EXPECT_EQ(Check(name), "INVALID_ARGUMENT ADAPTER_NAME_RESERVED") << name;
  }
}

TEST(NameTest, MessagesNeverRepeatTheName) {
  const absl::Status status = ValidateAdapterName("\x1b[31mred", "m");
  EXPECT_EQ(status.message().find("red"), absl::string_view::npos);
}

TEST(AdapterIdTest, ReadsNameAndDigest) {
  const auto plain = ParseAdapterId("sql");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->name, "sql");
  EXPECT_EQ(plain->digest, "");
  const std::string digest = "sha256:" + std::string(64, 'a');
  const auto pinned = ParseAdapterId("sql@" + digest);
  ASSERT_TRUE(pinned.ok());
  EXPECT_EQ(pinned->name, "sql");
  EXPECT_EQ(pinned->digest, digest);
}

TEST(AdapterIdTest, RefusesTheRest) {
  const std::string id = "INVALID_ARGUMENT ADAPTER_ID_INVALID";
  const auto parse = [](const std::string& text) {
    return Outcome(ParseAdapterId(text).status());
  };
  EXPECT_EQ(parse("a@"), id);
  EXPECT_EQ(parse("a@sha256:"), id);
  EXPECT_EQ(parse("a@sha256:" + std::string(63, 'a')), id);
  EXPECT_EQ(parse("a@sha256:" + std::string(64, 'A')), id);
  EXPECT_EQ(parse("a@sha256:" + std::string(64, 'a') + "@"), id);
  EXPECT_EQ(parse("a@md5:" + std::string(64, 'a')), id);
  EXPECT_EQ(parse("@sha256:" + std::string(64, 'a')), kInvalid);
  EXPECT_EQ(parse("../a"), kInvalid);
  EXPECT_EQ(parse(""), kInvalid);
}

TEST(AdapterIdTest, AnOwnerBeforeTheName) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  const auto plain = ParseQualifiedAdapterId("sql");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->owner, "");
  const auto named = ParseQualifiedAdapterId("acme/sql@" + digest);
  ASSERT_TRUE(named.ok());
  EXPECT_EQ(named->owner, "acme");
  EXPECT_EQ(named->name, "sql");
  EXPECT_EQ(named->digest, digest);
  const std::string longest(63, 'a');
  EXPECT_TRUE(ParseQualifiedAdapterId(longest + "/" + longest).ok());
  for (const std::string& bad :
       {std::string("/sql"), std::string("acme/"), std::string("/"),
        std::string("a/b/c"), std::string("../sql"), std::string("acme/../sql"),
        std::string("base/sql"), std::string("None/sql"),
        "acme@" + digest + "/sql", "a" + longest + "/sql",
        std::string("acme\\sql"), std::string("ac me/sql")}) {
    EXPECT_EQ(Outcome(ParseQualifiedAdapterId(bad).status()), kInvalid) << bad;
  }
  EXPECT_EQ(Outcome(ParseQualifiedAdapterId("acme/sql@").status()),
            "INVALID_ARGUMENT ADAPTER_ID_INVALID");
  EXPECT_EQ(Outcome(ParseAdapterId("acme/sql").status()), kInvalid);
}

}  // namespace
}  // namespace descant
