#include "server/tenants.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// "$1" and "$2" stand for two hashes, so that the table stays readable.
std::string Expand(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"$1", std::string(64, '1')}, {"$2", std::string(64, '2')}});
}

struct BadCase {
  const char* name;
  const char* content;
  const char* expected;
};

class BadTenantsTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadTenantsTest, Refused) {
  const auto tenants =
      TenantDirectory::Parse(Expand(GetParam().content), "t.yaml");
  ASSERT_FALSE(tenants.ok());
  EXPECT_EQ(tenants.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(tenants.status().message());
  EXPECT_THAT(message, StartsWith("t.yaml:"));
  EXPECT_THAT(message, HasSubstr(GetParam().expected));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_EQ(message.find(std::string(64, '1')), std::string::npos)
      << "the log is no place for hashes: " << message;
}

// Row 93, and what a file may have wrong besides.
INSTANTIATE_TEST_SUITE_P(
    All, BadTenantsTest,
    ::testing::Values(
        BadCase{"Empty", "", "is empty"},
        BadCase{"OnlyAComment", "# none\n", "is empty"},
        BadCase{"NotUtf8", "tenants: \xff\n", "not UTF-8"},
        BadCase{"NotYaml", "tenants: [\n", "not valid YAML"},
        BadCase{"NotAMap", "- acme\n", "must be a map"},
        BadCase{"NoTenants", "{}\n", "tenants: is missing"},
        BadCase{"NullTenants", "tenants:\n", "at least one tenant"},
        BadCase{"EmptyList", "tenants: []\n", "at least one tenant"},
        BadCase{"UnknownKey", "tenants: [{id: a, keys: [], quota: 1}]\n",
                "t.yaml:1: quota: unknown key"},
        BadCase{"UnknownTopKey", "tenant: []\n", "tenant: unknown key"},
        BadCase{"UnknownKeyOfKey",
                "tenants: [{id: a, keys: [{id: k, sha256: $1, x: 1}]}]\n",
                "x: unknown key"},
        BadCase{"DuplicateTopKey", "tenants: []\ntenants: []\n",
                "t.yaml:2: tenants: given more than once"},
        BadCase{"DuplicateKey", "tenants: [{id: a, id: b, keys: []}]\n",
                "id: given more than once"},
        BadCase{"KeyIsAMap", "{{a: b}: c}\n", "plain names"},
        BadCase{"TenantIsText", "tenants: [acme]\n", "must be a map"},
        BadCase{"NoId", "tenants: [{keys: [{id: k, sha256: $1}]}]\n",
                "id: is missing"},
        BadCase{"NoKeys", "tenants: [{id: a}]\n", "keys: is missing"},
        BadCase{"EmptyKeys", "tenants: [{id: a, keys: []}]\n", "one or two"},
        BadCase{"ThreeKeys",
                "tenants: [{id: a, keys: [{id: k, sha256: $1}, {id: l, "
                "sha256: $2}, {id: m, sha256: $2}]}]\n",
                "one or two"},
        BadCase{"EmptyId", "tenants: [{id: '', keys: []}]\n", "id: must be"},
        BadCase{"PathId", "tenants: [{id: ../etc, keys: []}]\n", "id: must be"},
        BadCase{"SlashId", "tenants: [{id: a/b, keys: []}]\n", "id: must be"},
        BadCase{"DotsId", "tenants: [{id: a..b, keys: []}]\n", "id: must be"},
        BadCase{"ListId", "tenants: [{id: [a], keys: []}]\n", "id: must be"},
        BadCase{"ReservedId", "tenants: [{id: base, keys: []}]\n",
                "id: must be"},
        BadCase{"TenantTwice",
                "tenants:\n- {id: a, keys: [{id: k, sha256: $1}]}\n"
                "- {id: a, keys: [{id: k, sha256: $2}]}\n",
                "t.yaml:3: tenant a: given twice"},
        BadCase{"KeyIdTwice",
                "tenants: [{id: a, keys: [{id: k, sha256: $1}, {id: k, "
                "sha256: $2}]}]\n",
                "key k of tenant a: given twice"},
        BadCase{"SameKeyForTwoTenants",
                "tenants:\n- {id: a, keys: [{id: k, sha256: $1}]}\n"
                "- {id: b, keys: [{id: k, sha256: $1}]}\n",
                "key k of tenant b: another key has the same sha256"},
        BadCase{"SameKeyTwiceInOne",
                "tenants: [{id: a, keys: [{id: k, sha256: $1}, {id: l, "
                "sha256: $1}]}]\n",
                "the same sha256"},
        BadCase{"ShortHash", "tenants: [{id: a, keys: [{id: k, sha256: ab}]}]",
                "64 lower-case hex"},
        BadCase{"LongHash",
                "tenants: [{id: a, keys: [{id: k, sha256: $1a}]}]\n",
                "64 lower-case hex"},
        BadCase{"PlainKey",
                "tenants: [{id: a, keys: [{id: k, sha256: my-secret}]}]\n",
                "64 lower-case hex"},
        BadCase{"NoHash", "tenants: [{id: a, keys: [{id: k}]}]\n",
                "sha256: is missing"}),
    [](const auto& info) { return std::string(info.param.name); });

std::string TwoTenants() {
  const auto hash = [](absl::string_view key) { return HexOf(Sha256Of(key)); };
  return absl::StrCat("tenants:\n  - id: acme\n    keys:\n      - {id: old, ",
                      "sha256: ", hash("acme-old"), "}\n",
                      "      - {id: new, sha256: ", hash("acme-new"), "}\n",
                      "  - id: globex\n    keys: [{id: k, sha256: ",
                      hash("globex-key"), "}]\n");
}

TEST(TenantsTest, EachKeyIsItsTenants) {
  const auto tenants = TenantDirectory::Parse(TwoTenants(), "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  EXPECT_EQ((*tenants)->Authenticate("acme-old"), "acme");
  EXPECT_EQ((*tenants)->Authenticate("acme-new"), "acme");
  EXPECT_EQ((*tenants)->Authenticate("globex-key"), "globex");
  for (const std::string& key :
       {std::string(), std::string("acme"), std::string("acme-ol"),
        std::string("acme-old "), std::string("acme-old\0", 9),
        HexOf(Sha256Of("acme-old"))}) {
    EXPECT_EQ((*tenants)->Authenticate(key), std::nullopt) << key;
  }
}

TEST(TenantsTest, OnlyTheOwnerMayHaveAccessToTheFile) {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "tenants-XXXXXX").string();
  const std::string folder = mkdtemp(pattern.data());
  const std::string path = folder + "/tenants.yaml";
  EXPECT_FALSE(TenantDirectory::Load(path).ok()) << "missing";
  EXPECT_FALSE(TenantDirectory::Load(folder).ok()) << "a directory";
  ASSERT_EQ(mkfifo((folder + "/pipe").c_str(), 0600), 0);
  EXPECT_FALSE(TenantDirectory::Load(folder + "/pipe").ok()) << "a pipe";
  std::ofstream(path) << TwoTenants();
  for (const mode_t mode : {0604, 0602, 0640, 0620, 0644, 0666, 0601, 0610}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    const auto refused = TenantDirectory::Load(path);
    ASSERT_FALSE(refused.ok()) << mode;
    EXPECT_THAT(std::string(refused.status().message()),
                HasSubstr("group or others"));
  }
  for (const mode_t mode : {0600, 0400}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_TRUE(TenantDirectory::Load(path).ok()) << mode;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace descant
