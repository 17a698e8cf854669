// Sharing in the store: durable, kept by rotation, gone with the name.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/adapters/store_fixture.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

std::string Share(TestStore* store, const std::string& tenant,
                  const std::string& name, const AdapterSharing& sharing) {
  return Outcome(store->store->Share(tenant, name, sharing).status());
}

TEST_F(StoreTest, SharingSurvivesARestart) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.Upload("acme", "b", 2).ok());
    ASSERT_TRUE(store.Upload("other", "a", 3).ok());
    EXPECT_EQ(Share(&store, "acme", "a", {{"one", "two"}, false}), "OK");
    EXPECT_EQ(Share(&store, "acme", "b", {{"one"}, false}), "OK");
    EXPECT_EQ(Share(&store, "acme", "b", {}), "OK");
    EXPECT_EQ(Share(&store, "other", "a", {{}, true}), "OK");
    EXPECT_EQ(Share(&store, "acme", "none", {{}, true}),
              "NOT_FOUND ADAPTER_NOT_FOUND");
    // A new version is shared as the name is.
    ASSERT_TRUE(store.Upload("acme", "a", 4, true).ok());
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.SharedWith("acme", "a"), "one two");
  EXPECT_EQ(store.SharedWith("acme", "b"), "");
  EXPECT_EQ(store.SharedWith("other", "a"), "*");
  const auto used = store.registry.Lookup("two", {"a", "", "acme"});
  ASSERT_TRUE(used.ok());
  EXPECT_EQ((*used)->tenant, "acme");
  EXPECT_TRUE((*used)->source->Load(**used).ok());
  // Sharing gives no version, and takes none.
  EXPECT_EQ(store.Upload("acme", "c", 5)->info.version, 5u);
}

TEST_F(StoreTest, ANameThatIsDeletedIsSharedNoMore) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    EXPECT_EQ(Share(&store, "acme", "a", {{}, true}), "OK");
    ASSERT_TRUE(store.store->Delete("acme", "a").ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    EXPECT_EQ(store.SharedWith("acme", "a"), "");
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.SharedWith("acme", "a"), "");
  EXPECT_EQ(Outcome(store.registry.Lookup("one", {"a", "", "acme"}).status()),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

TEST_F(StoreTest, TheSameSharingAgainWritesNothing) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  const uint64_t before = store.store->Stats().journal_bytes;
  EXPECT_EQ(Share(&store, "acme", "a", {}), "OK");
  EXPECT_EQ(store.store->Stats().journal_bytes, before);
  EXPECT_EQ(Share(&store, "acme", "a", {{"one"}, false}), "OK");
  const uint64_t once = store.store->Stats().journal_bytes;
  EXPECT_GT(once, before);
  EXPECT_EQ(Share(&store, "acme", "a", {{"one"}, false}), "OK");
  EXPECT_EQ(store.store->Stats().journal_bytes, once);
}

// The longest list, changed again and again: the journal stays small, and holds
// the last one.
TEST_F(StoreTest, RotationKeepsSharing) {
  AdapterSharing longest;
  for (size_t i = 0; i < kMaxSharedTenants; ++i) {
    longest.tenants.push_back(absl::StrCat("t", 100 + i, std::string(59, 'x')));
  }
  std::string history;
  {
    TestStore store;
    store.options.rotate_bytes = 20000;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
    ASSERT_TRUE(store.Upload("acme", "b", 3).ok());
    history = store.History("acme", "a");
    uint64_t largest = 0;
    for (int i = 0; i < 40; ++i) {
      ASSERT_EQ(Share(&store, "acme", "a", longest), "OK");
      ASSERT_EQ(Share(&store, "acme", "b", {{"one"}, false}), "OK");
      ASSERT_EQ(Share(&store, "acme", "b", {{}, true}), "OK");
      ASSERT_EQ(Share(&store, "acme", "a", {{"one"}, false}), "OK");
      largest = std::max(largest, store.store->Stats().journal_bytes);
    }
    EXPECT_LT(largest, 30000u);
    ASSERT_EQ(Share(&store, "acme", "a", longest), "OK");
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.SharedWith("acme", "a"), absl::StrJoin(longest.tenants, " "));
  EXPECT_EQ(store.SharedWith("acme", "b"), "*");
  EXPECT_EQ(store.History("acme", "a"), history);
}

// Nothing of the format before it needs to be changed; a server of that format
// would misread what comes.
TEST_F(StoreTest, AStoreOfFormat2IsTakenOver) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  }
  const std::string journal = Slurp(root_ + "/journal");
  Spit(root_ + "/FORMAT", "2\n");
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(Slurp(root_ + "/journal"), journal);
  EXPECT_EQ(Slurp(root_ + "/FORMAT"), "3\n");
  EXPECT_EQ(store.SharedWith("acme", "a"), "");
  EXPECT_EQ(Share(&store, "acme", "a", {{"one"}, false}), "OK");
}

TEST_F(StoreTest, AReadOnlyStoreKeepsItsSharing) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    EXPECT_EQ(Share(&store, "acme", "a", {{"one"}, false}), "OK");
  }
  FaultFs refusing(&fs_);
  refusing.RefuseWrites(absl::FailedPreconditionError("EROFS"));
  TestStore store;
  ASSERT_TRUE(store.Open(&refusing, root_).ok());
  EXPECT_EQ(Share(&store, "acme", "a", {}),
            "FAILED_PRECONDITION STORE_READ_ONLY");
  EXPECT_EQ(store.SharedWith("acme", "a"), "one");
}

}  // namespace
}  // namespace descant
