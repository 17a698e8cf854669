#include "server/tenants.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <utility>

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
        BadCase{"EmptySpiffeIds", "tenants: [{id: a, spiffe-ids: []}]\n",
                "spiffe-ids: must be a list"},
        BadCase{"SpiffeIdOfNoWorkload",
                "tenants: [{id: a, spiffe-ids: ['spiffe://a']}]\n",
                "t.yaml:1: tenant a: spiffe-ids: each must be"},
        BadCase{"SpiffeIdPattern",
                "tenants: [{id: a, spiffe-ids: ['spiffe://a/*']}]\n",
                "spiffe-ids: each must be"},
        BadCase{"SpiffeIdWithDots",
                "tenants: [{id: a, spiffe-ids: ['spiffe://a/../b']}]\n",
                "spiffe-ids: each must be"},
        BadCase{"SpiffeIdWithSlashes",
                "tenants: [{id: a, spiffe-ids: ['spiffe://a//b']}]\n",
                "spiffe-ids: each must be"},
        BadCase{"SpiffeIdOfUpperCase",
                "tenants: [{id: a, spiffe-ids: ['spiffe://A/b']}]\n",
                "spiffe-ids: each must be"},
        BadCase{"OtherUri", "tenants: [{id: a, spiffe-ids: ['https://a/b']}]\n",
                "spiffe-ids: each must be"},
        BadCase{"SameSpiffeIdForTwo",
                "tenants:\n- {id: a, spiffe-ids: ['spiffe://a/b']}\n"
                "- {id: b, spiffe-ids: ['spiffe://a/b']}\n",
                "t.yaml:3: tenant b: spiffe-ids: one is given twice"},
        BadCase{"EmptyJwt", "tenants: [{id: a}]\njwt: []\n",
                "jwt: must be a list"},
        BadCase{"JwtWithoutAudience",
                "tenants: [{id: a}]\njwt: [{issuer: i, keys: []}]\n",
                "audience: is missing"},
        BadCase{"JwtWithoutKeys",
                "tenants: [{id: a}]\njwt: [{issuer: i, audience: d, keys: "
                "[]}]\n",
                "jwt: keys: must be a list"},
        BadCase{"JwtOfUnknownAlgorithm",
                "tenants: [{id: a}]\njwt: [{issuer: i, audience: d, keys: "
                "[{kid: k, algorithm: HS256, file: k.pem}]}]\n",
                "algorithm: must be RS256 or ES256"},
        BadCase{"JwtOfAlgorithmNone",
                "tenants: [{id: a}]\njwt: [{issuer: i, audience: d, keys: "
                "[{kid: k, algorithm: none, file: k.pem}]}]\n",
                "algorithm: must be RS256 or ES256"},
        BadCase{"JwtWithoutItsKeyFile",
                "tenants: [{id: a}]\njwt: [{issuer: i, audience: d, keys: "
                "[{kid: k, algorithm: RS256, file: nowhere/k.pem}]}]\n",
                "nowhere/k.pem: cannot be read"},
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

// Null: nobody has this key.
std::shared_ptr<const Tenant> TenantOf(const TenantDirectory& tenants,
                                       absl::string_view key) {
  const auto identity = tenants.Authenticate(key, 0);
  if (!identity.ok()) {
    EXPECT_TRUE(absl::IsUnauthenticated(identity.status()));
    return nullptr;
  }
  EXPECT_EQ(identity->kind, IdentityKind::kApiKey);
  return identity->tenant;
}

TEST(TenantsTest, EachKeyIsItsTenants) {
  const auto tenants = TenantDirectory::Parse(TwoTenants(), "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  EXPECT_EQ(TenantOf(**tenants, "acme-old")->id, "acme");
  EXPECT_EQ(TenantOf(**tenants, "acme-new")->id, "acme");
  EXPECT_EQ(TenantOf(**tenants, "globex-key")->id, "globex");
  for (const std::string& key :
       {std::string(), std::string("acme"), std::string("acme-ol"),
        std::string("acme-old "), std::string("acme-old\0", 9),
        HexOf(Sha256Of("acme-old"))}) {
    EXPECT_EQ(TenantOf(**tenants, key), nullptr) << key;
  }
}

TEST(TenantsTest, ASpiffeIdIsItsTenantsToTheLetter) {
  const auto tenants = TenantDirectory::Parse(
      "tenants:\n- {id: acme, spiffe-ids: ['spiffe://acme.example/ns/a', "
      "'spiffe://acme.example/ns/b_B-2']}\n"
      "- {id: globex, spiffe-ids: ['spiffe://acme.example/ns/c']}\n",
      "t.yaml");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  const auto of = [&](absl::string_view id) {
    const Identity identity = (*tenants)->FindCertificate(id);
    return identity.tenant == nullptr ? "" : identity.tenant->id;
  };
  EXPECT_EQ(of("spiffe://acme.example/ns/a"), "acme");
  EXPECT_EQ(of("spiffe://acme.example/ns/b_B-2"), "acme");
  EXPECT_EQ(of("spiffe://acme.example/ns/c"), "globex");
  for (const char* other :
       {"", "spiffe://acme.example/ns", "spiffe://acme.example/ns/a/",
        "spiffe://acme.example/ns/A", "spiffe://ACME.example/ns/a",
        "spiffe://acme.example/ns/a?x", "spiffe://globex.example/ns/a"}) {
    EXPECT_EQ(of(other), "") << other;
  }
  EXPECT_TRUE((*tenants)->Has("acme"));
  EXPECT_FALSE((*tenants)->Has("base"));
}

// One tenant with this text in its entry and the key "key".
absl::StatusOr<std::shared_ptr<const TenantDirectory>> OneTenant(
    const std::string& more) {
  return TenantDirectory::Parse(
      absl::StrCat("tenants:\n- {id: acme, keys: [{id: k, sha256: ",
                   HexOf(Sha256Of("key")), "}]", more, "}\n"),
      "t.yaml");
}

TEST(TenantsTest, WithoutMoreATenantHasNoLimitsAndIsNoOperator) {
  const auto tenants = OneTenant("");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  const auto tenant = TenantOf(**tenants, "key");
  EXPECT_EQ(tenant->weight, 1);
  EXPECT_TRUE(tenant->roles.HasAny(Role::kGenerate));
  EXPECT_TRUE(tenant->roles.HasAny(Role::kManageAdapters));
  EXPECT_FALSE(tenant->roles.HasAny(Role::kOperator));
  EXPECT_EQ(tenant->limits.requests_per_second, 0);
  EXPECT_EQ(tenant->limits.sequences, 0);
}

TEST(TenantsTest, WeightRolesAndLimits) {
  const auto tenants = OneTenant(
      ", weight: 1000, roles: [generate, operator], limits: "
      "{requests-per-second: 0.5, tokens-per-second: 20000, sequences: 7, "
      "queued-tokens: 4096, adapters: 20, adapter-bytes: 64MiB, "
      "adapter-rank: 16, adapter-slots: 6, adapter-slot-share: 3, "
      "prefix-cache-blocks: 500, uploads: 2}");
  ASSERT_TRUE(tenants.ok()) << tenants.status();
  const auto tenant = TenantOf(**tenants, "key");
  EXPECT_EQ(tenant->weight, 1000);
  EXPECT_TRUE(tenant->roles.HasAny(Role::kGenerate));
  EXPECT_FALSE(tenant->roles.HasAny(Role::kManageAdapters));
  EXPECT_TRUE(tenant->roles.HasAny(Role::kOperator));
  const TenantLimits& limits = tenant->limits;
  EXPECT_EQ(limits.requests_per_second, 0.5);
  EXPECT_EQ(limits.tokens_per_second, 20000);
  EXPECT_EQ(limits.sequences, 7);
  EXPECT_EQ(limits.queued_tokens, 4096);
  EXPECT_EQ(limits.store.max_adapters, 20);
  EXPECT_EQ(limits.store.max_bytes, uint64_t{64} << 20);
  EXPECT_EQ(limits.store.max_uploads, 2);
  EXPECT_EQ(limits.adapter_rank, 16);
  EXPECT_EQ(limits.slots.most, 6);
  EXPECT_EQ(limits.slots.share, 3);
  EXPECT_EQ(limits.cached_blocks, 500);
}

TEST(TenantsTest, BadWeightsRolesAndLimits) {
  const std::pair<const char*, const char*> cases[] = {
      {", weight: 0", "t.yaml:2: tenant acme: weight: "},
      {", weight: 1001", "weight: "},
      {", weight: 1.5", "weight: "},
      {", weight: [1]", "weight: "},
      {", weight: 1, weight: 2", "weight: given more than once"},
      {", roles: []", "tenant acme: roles: must be a list of generate, "},
      {", roles: generate", "roles: must be a list"},
      {", roles: [generate, root]", "roles: must be a list"},
      {", roles: [[generate]]", "roles: must be a list"},
      {", limits: 5", "must be a map"},
      {", limits: {speed: 1}", "speed: unknown key"},
      {", limits: {sequences: 0}",
       "tenant acme: limits: sequences: must be a whole number from 1 "},
      {", limits: {sequences: -1}", "limits: sequences: "},
      {", limits: {sequences: 99999999999}", "limits: sequences: "},
      {", limits: {queued-tokens: many}", "limits: queued-tokens: "},
      {", limits: {requests-per-second: 0}",
       "limits: requests-per-second: must be a number in [0.01, 1e+09]"},
      {", limits: {requests-per-second: nan}", "requests-per-second: "},
      {", limits: {tokens-per-second: inf}", "tokens-per-second: "},
      {", limits: {tokens-per-second: [1]}", "tokens-per-second: "},
      {", limits: {adapter-bytes: 0}", "adapter-bytes: "},
      {", limits: {adapter-bytes: 5 apples}", "adapter-bytes: "},
      {", limits: {adapter-rank: 0}", "adapter-rank: "},
      {", limits: {adapter-slots: 0}", "adapter-slots: "},
      {", limits: {adapter-slot-share: -2}", "adapter-slot-share: "},
      {", limits: {prefix-cache-blocks: x}", "prefix-cache-blocks: "},
      {", limits: {adapters: ''}", "adapters: "}};
  for (const auto& [more, expected] : cases) {
    const auto refused = OneTenant(more);
    ASSERT_FALSE(refused.ok()) << more;
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), StartsWith("t.yaml:"));
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(expected));
  }
}

// Row 94.
TEST(TenantsTest, ABadFileIsNotTakenOver) {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "tenants-XXXXXX").string();
  const std::string folder = mkdtemp(pattern.data());
  const std::string path = folder + "/tenants.yaml";
  const auto write = [&path](const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  };
  write(TwoTenants());
  const auto first = TenantDirectory::Load(path);
  ASSERT_TRUE(first.ok()) << first.status();
  TenantsFile file(path, *first);
  write("tenants: [\n");
  EXPECT_FALSE(file.Reload().ok());
  EXPECT_TRUE(file.stale());
  EXPECT_EQ(file.current(), *first);
  std::filesystem::remove(path);
  EXPECT_FALSE(file.Reload().ok());
  EXPECT_EQ(file.current(), *first);
  write(absl::StrCat("tenants: [{id: acme, keys: [{id: new, sha256: ",
                     HexOf(Sha256Of("acme-new")), "}]}]\n"));
  EXPECT_TRUE(file.Reload().ok());
  EXPECT_FALSE(file.stale());
  EXPECT_NE(TenantOf(*file.current(), "acme-new"), nullptr);
  EXPECT_EQ(TenantOf(*file.current(), "acme-old"), nullptr) << "revoked";
  std::filesystem::remove_all(folder);
}

TEST(TenantsTest, KeysAreRandomAndTravelInAHeader) {
  std::set<std::string> keys;
  for (int i = 0; i < 100; ++i) {
    const std::string key = MakeApiKey();
    EXPECT_GE(key.size(), 3u + 43u);
    EXPECT_EQ(key.find_first_not_of("abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
              std::string::npos)
        << key;
    EXPECT_TRUE(keys.insert(key).second);
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
