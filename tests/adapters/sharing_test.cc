// Whom an adapter is shared with, and what the registry makes of it.
#include "adapters/sharing.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/registry.h"
#include "tests/adapters/adapter_fixture.h"
#include "tests/adapters/registry_entry.h"

namespace descant {
namespace {

constexpr char kNotFound[] = "NOT_FOUND ADAPTER_NOT_FOUND";

std::vector<std::string> ManyTenants(size_t count) {
  std::vector<std::string> tenants;
  for (size_t i = 0; i < count; ++i) tenants.push_back(absl::StrCat("t", i));
  return tenants;
}

std::string Refusal(std::vector<std::string> tenants, bool all = false) {
  return Outcome(MakeSharing("acme", std::move(tenants), all).status());
}

TEST(SharingTest, IdsInOrderEachOnceWithoutTheOwner) {
  const auto sharing =
      MakeSharing("acme", {"two", "one", "acme", "two"}, false);
  ASSERT_TRUE(sharing.ok());
  EXPECT_EQ(sharing->tenants, (std::vector<std::string>{"one", "two"}));
  EXPECT_FALSE(sharing->nobody());
  EXPECT_TRUE(MakeSharing("acme", {"acme"}, false)->nobody());
  EXPECT_TRUE(MakeSharing("acme", {}, false)->nobody());
}

TEST(SharingTest, WhatIsRefused) {
  const std::string invalid = "INVALID_ARGUMENT SHARING_INVALID";
  EXPECT_EQ(Refusal(ManyTenants(kMaxSharedTenants)), "OK");
  EXPECT_EQ(Refusal(ManyTenants(kMaxSharedTenants + 1)), invalid);
  EXPECT_EQ(Refusal({"one"}, /*all=*/true), invalid);
  EXPECT_EQ(Refusal({}, /*all=*/true), "OK");
  for (const char* id : {"", "..", "a/b", "-a", "a b", "base", "a\n", "\xff"}) {
    EXPECT_EQ(Refusal({"one", id}), invalid) << id;
  }
}

TEST(SharingTest, Includes) {
  const AdapterSharing named{{"one", "two"}, false};
  EXPECT_TRUE(named.Includes("one"));
  EXPECT_TRUE(named.Includes("two"));
  EXPECT_FALSE(named.Includes("on"));
  EXPECT_FALSE(named.Includes(""));
  const AdapterSharing all{{}, true};
  EXPECT_TRUE(all.Includes("anybody"));
  EXPECT_FALSE(all.Includes("")) << "where tenants are off, nobody is one";
  EXPECT_FALSE(AdapterSharing().Includes("one"));
}

class SharedRegistryTest : public ::testing::Test {
 protected:
  void Put(const std::string& tenant, const std::string& name,
           const std::string& digest) {
    registry_.Put(MakeEntry(tenant, name, digest), 3);
  }
  // The digest, or the outcome.
  std::string Lookup(const std::string& tenant, const AdapterId& id) {
    const auto adapter = registry_.Lookup(tenant, id);
    const auto entry = registry_.Find(tenant, id);
    EXPECT_EQ(adapter.status(), entry.status());
    return adapter.ok() ? (*adapter)->digest : Outcome(adapter.status());
  }
  // Names on pages of that size, "|" between pages.
  std::string Listed(const std::string& tenant, int32_t page_size) {
    std::string text;
    std::string token;
    do {
      const auto page = registry_.ListShared(tenant, page_size, token);
      EXPECT_TRUE(page.ok());
      for (const RegistryEntry& entry : page->entries) {
        absl::StrAppend(&text, entry.info.tenant, "/", entry.info.name, " ");
      }
      text += absl::StrCat("(", page->total, ")");
      token = page->next_page_token;
      if (!token.empty()) text += "|";
    } while (!token.empty());
    return text;
  }

  AdapterRegistry registry_;
};

TEST_F(SharedRegistryTest, OnlyThoseItIsSharedWithFindIt) {
  Put("acme", "a", "d1");
  Put("acme", "a", "d2");
  Put("acme", "b", "d3");
  const absl::Status absent =
      registry_.Lookup("one", {"never", "", "nobody"}).status();
  EXPECT_EQ(registry_.Lookup("one", {"a", "", "acme"}).status(), absent);
  ASSERT_TRUE(registry_.Share("acme", "a", {{"one"}, false}).ok());
  EXPECT_EQ(Lookup("one", {"a", "", "acme"}), "d2");
  EXPECT_EQ(Lookup("one", {"a", "d1", "acme"}), "d1") << "all its versions";
  EXPECT_EQ(registry_.Lookup("one", {"a", "d9", "acme"}).status(), absent);
  EXPECT_EQ(registry_.Lookup("one", {"a", ""}).status(), absent);
  EXPECT_EQ(registry_.Lookup("one", {"b", "", "acme"}).status(), absent);
  EXPECT_EQ(registry_.Lookup("two", {"a", "", "acme"}).status(), absent);
  EXPECT_EQ(registry_.Lookup("", {"a", "", "acme"}).status(), absent);
  EXPECT_EQ(Lookup("acme", {"a", "", "acme"}), "d2") << "the owner's own";
  EXPECT_EQ(Lookup("acme", {"b", "", "acme"}), "d3");

  // Replaced as a whole; and the versions to come are shared too.
  ASSERT_TRUE(registry_.Share("acme", "a", {{"two"}, false}).ok());
  Put("acme", "a", "d4");
  EXPECT_EQ(Lookup("one", {"a", "", "acme"}), kNotFound);
  EXPECT_EQ(Lookup("two", {"a", "", "acme"}), "d4");
  ASSERT_TRUE(registry_.Share("acme", "a", {{}, true}).ok());
  EXPECT_EQ(Lookup("anybody", {"a", "", "acme"}), "d4");
  ASSERT_TRUE(registry_.Share("acme", "a", {}).ok());
  EXPECT_EQ(Lookup("two", {"a", "", "acme"}), kNotFound);
  EXPECT_EQ(Outcome(registry_.Share("acme", "c", {})), kNotFound);
  EXPECT_EQ(Outcome(registry_.Share("one", "a", {{}, true})), kNotFound);
}

TEST_F(SharedRegistryTest, RemovalEndsIt) {
  Put("acme", "a", "d1");
  ASSERT_TRUE(registry_.Share("acme", "a", {{}, true}).ok());
  ASSERT_TRUE(registry_.Remove("acme", "a").ok());
  EXPECT_EQ(Lookup("one", {"a", "", "acme"}), kNotFound);
  EXPECT_TRUE(registry_.AllShared().empty());
  Put("acme", "a", "d1");
  EXPECT_EQ(Lookup("one", {"a", "", "acme"}), kNotFound);
  EXPECT_TRUE(registry_.SharingOf("acme", "a").nobody());
}

TEST_F(SharedRegistryTest, ListsWhatOthersShare) {
  for (const char* owner : {"acme", "acme-2", "one"}) {
    for (const char* name : {"a", "b", "c"}) Put(owner, name, "d");
  }
  EXPECT_EQ(Listed("one", 2), "(0)");
  ASSERT_TRUE(registry_.Share("acme", "b", {{"one", "two"}, false}).ok());
  ASSERT_TRUE(registry_.Share("acme", "c", {{"two"}, false}).ok());
  ASSERT_TRUE(registry_.Share("acme-2", "a", {{}, true}).ok());
  ASSERT_TRUE(registry_.Share("one", "c", {{}, true}).ok());
  // In order of the whole name: '-' is before '/'.
  EXPECT_EQ(Listed("one", 0), "acme-2/a acme/b (2)");
  EXPECT_EQ(Listed("two", 0), "acme-2/a acme/b acme/c one/c (4)");
  EXPECT_EQ(Listed("two", 3), "acme-2/a acme/b acme/c (4)|one/c (4)");
  EXPECT_EQ(Listed("two", 1), "acme-2/a (4)|acme/b (4)|acme/c (4)|one/c (4)");
  EXPECT_EQ(Listed("acme", 0), "acme-2/a one/c (2)");
  EXPECT_EQ(Listed("", 0), "(0)");
  const std::string invalid = "INVALID_ARGUMENT PAGE_TOKEN_INVALID";
  const std::string own = registry_.List("acme", 1, "")->next_page_token;
  for (const std::string& token :
       {own, std::string("s1-"), std::string("s1-zz"), std::string("s1-61")}) {
    EXPECT_EQ(Outcome(registry_.ListShared("two", 1, token).status()), invalid);
  }
  EXPECT_EQ(Outcome(registry_.ListShared("two", -1, "").status()),
            "INVALID_ARGUMENT PAGE_SIZE_INVALID");
}

// More names than are looked at in one hold of the lock.
TEST_F(SharedRegistryTest, ListsAcrossHoldsOfTheLock) {
  constexpr int kNames = 3000;
  for (int i = 0; i < kNames; ++i) {
    const std::string name = absl::StrCat("n", i);
    Put("acme", name, "d");
    ASSERT_TRUE(registry_.Share("acme", name, {{"one"}, false}).ok());
  }
  int seen = 0;
  std::string token;
  do {
    const auto page = registry_.ListShared("one", kMaxPageSize, token);
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->total, static_cast<size_t>(kNames));
    seen += static_cast<int>(page->entries.size());
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(seen, kNames);
}

TEST_F(SharedRegistryTest, TheOwnersListenerHearsOfIt) {
  Put("acme", "a", "d1");
  std::vector<std::string> heard;
  registry_.SetListener(
      [&heard](RegistryChange change, const RegistryEntry& entry) {
        EXPECT_EQ(change, RegistryChange::kSharingChanged);
        heard.push_back(absl::StrCat(entry.info.tenant, "/", entry.info.name));
      });
  ASSERT_TRUE(registry_.Share("acme", "a", {{"one"}, false}).ok());
  EXPECT_EQ(heard, std::vector<std::string>{"acme/a"});
}

}  // namespace
}  // namespace descant
