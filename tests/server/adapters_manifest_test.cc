#include "server/adapters_manifest.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/tenants.h"

namespace descant {
namespace {

const std::string kDigest = absl::StrCat("sha256:", std::string(64, 'a'));

absl::StatusOr<AdaptersManifest> Parse(
    const std::string& content, const TenantDirectory* tenants = nullptr) {
  return AdaptersManifest::Parse(content, "/etc/descant/m.yaml", "demo",
                                 tenants);
}

std::shared_ptr<const TenantDirectory> Acme() {
  return *TenantDirectory::Parse(
      absl::StrCat("tenants: [{id: acme, keys: [{id: k, sha256: ",
                   std::string(64, '0'), "}]}]"),
      "t.yaml");
}

TEST(AdaptersManifestTest, ReadsEveryKindOfEntry) {
  const auto manifest = Parse(absl::StrCat(
      "adapters:\n"
      "  - {name: a, directory: /models/a, pinned: true, labels: {team: x}}\n"
      "  - {name: b, directory: b}\n"
      "  - {name: c, file: c.gguf}\n"
      "  - {name: d, digest: '",
      kDigest,
      "'}\n"
      "  - {name: e, absent: true}\n"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const std::vector<ManifestEntry>& entries = manifest->entries;
  ASSERT_EQ(entries.size(), 5u);
  EXPECT_EQ(entries[0].directory, "/models/a");
  EXPECT_TRUE(entries[0].pinned);
  EXPECT_EQ(entries[0].labels.at("team"), "x");
  EXPECT_EQ(entries[1].directory, "/etc/descant/b");
  EXPECT_FALSE(entries[1].pinned);
  EXPECT_EQ(entries[2].file, "/etc/descant/c.gguf");
  EXPECT_EQ(entries[3].digest, kDigest);
  EXPECT_TRUE(entries[4].absent);
}

TEST(AdaptersManifestTest, MayBeEmpty) {
  EXPECT_TRUE(Parse("adapters: []").ok());
  EXPECT_TRUE(Parse("adapters:").ok());
}

TEST(AdaptersManifestTest, TenantsMustExist) {
  const auto tenants = Acme();
  const std::string entry = "adapters: [{name: a, absent: true, tenant: acme}]";
  EXPECT_TRUE(Parse(entry, tenants.get()).ok());
  EXPECT_FALSE(Parse(entry).ok());
  EXPECT_FALSE(
      Parse("adapters: [{name: a, absent: true, tenant: other}]", tenants.get())
          .ok());
  EXPECT_FALSE(
      Parse("adapters: [{name: a, absent: true}]", tenants.get()).ok());
  EXPECT_TRUE(
      Parse("adapters: [{name: a, absent: true, tenant: acme}]", tenants.get())
          .ok());
}

TEST(AdaptersManifestTest, RefusesWhatItDoesNotKnow) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "is empty"},
      {"[]", "must be a map"},
      {"other: 1", "unknown key"},
      {"adapters: {}", "must be a list"},
      {"adapters: [7]", "must be a map"},
      {"adapters: [{directory: d}]", "name: is missing"},
      {"adapters: [{name: a}]", "must have one of"},
      {"adapters: [{name: a, directory: d, file: f}]", "must have one of"},
      {"adapters: [{name: a, directory: d, absent: true}]", "must have one of"},
      {"adapters: [{name: a, absent: false}]", "must have one of"},
      {"adapters: [{name: ../a, directory: d}]", "name"},
      {"adapters: [{name: base, directory: d}]", "reserved"},
      {"adapters: [{name: demo, directory: d}]", "reserved"},
      {"adapters: [{name: a, directory: [d]}]", "must be a text"},
      {"adapters: [{name: a, directory: ''}]", "must be a text"},
      {"adapters: [{name: a, directory: d, pinned: 1}]", "true or false"},
      {"adapters: [{name: a, absent: true, pinned: true}]", "pinned"},
      {"adapters: [{name: a, digest: 'sha256:00'}]", "digest"},
      {"adapters: [{name: a, digest: 'md5:00'}]", "digest"},
      {"adapters: [{name: a, directory: d, url: u}]", "url: unknown key"},
      {"adapters: [{name: a, name: b, directory: d}]", "more than once"},
      {"adapters: [{name: a, directory: d}, {name: a, file: f}]",
       "given twice"},
      {"adapters: [{name: a, absent: true, labels: {k: v}}]", "labels"},
      {"adapters: [{name: a, directory: d, labels: [k]}]", "labels"},
      {"adapters: [{name: a, directory: d, labels: {'a b': v}}]", "labels"},
      {"adapters: [{name: a, directory: d, labels: {k: \"\\e[1m\"}}]",
       "labels"},
  };
  for (const auto& [content, says] : cases) {
    const auto manifest = Parse(content);
    ASSERT_FALSE(manifest.ok()) << content;
    const std::string message(manifest.status().message());
    EXPECT_TRUE(absl::StrContains(message, says)) << content << ": " << message;
    EXPECT_TRUE(absl::StartsWith(message, "/etc/descant/m.yaml:")) << message;
    EXPECT_FALSE(absl::StrContains(message, "\n")) << message;
  }
}

}  // namespace
}  // namespace descant
