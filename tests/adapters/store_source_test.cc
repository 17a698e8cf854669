// Adapters of a store whose tensors are read when they are loaded.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "adapters/blob.h"
#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

TEST_F(StoreTest, ReplacedVersionsServeRequestsInFlight) {
  TestStore store;
  store.options.max_versions = 1;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  auto held = store.registry.Lookup("acme", {"a", ""});
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
  EXPECT_NE((*store.registry.Lookup("acme", {"a", ""}))->digest,
            (*held)->digest);
  // Its file stays as long as somebody may load it.
  store.store->CollectGarbage();
  EXPECT_EQ(Blobs().size(), 2u);
  const auto loaded = (*held)->source->Load(**held);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->digest, (*held)->digest);
  EXPECT_EQ(
      Outcome(store.registry.Lookup("acme", {"a", (*held)->digest}).status()),
      "NOT_FOUND ADAPTER_NOT_FOUND");
  held = absl::CancelledError();
  store.store->CollectGarbage();
  EXPECT_EQ(Blobs().size(), 1u);
}

TEST_F(StoreTest, AStartReadsNoTensors) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  }
  // All zeros behind the blob's header and config, which are read.
  const stdfs::path blob = Blobs()[0];
  std::string content = Slurp(blob);
  const size_t prefix =
      kBlobHeaderBytes + TestStore::Spec("acme", "a", 1).config_json.size();
  std::fill(content.begin() + static_cast<ptrdiff_t>(prefix), content.end(),
            '\0');
  Spit(blob, content);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.store->recovery().ready, 1);
  EXPECT_EQ(store.registry.Get("acme", "a")->info.num_modules, 4);
}

TEST_F(StoreTest, ARecordWithoutModuleKindsIsReadForThem) {
  JournalRecord record;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    record.info = store.registry.Get("acme", "a")->info;
  }
  const uint64_t parameters = record.info.parameters;
  record.info.module_kinds = 0;  // as older servers wrote it
  record.info.parameters = 0;
  Spit(root_ + "/journal", "DSCJRNL1" + EncodeRecord(record));
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  const auto entry = store.registry.Get("acme", "a");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->info.module_kinds, 0x5u);
  EXPECT_EQ(entry->info.parameters, parameters);
}

TEST_F(StoreTest, TwoNamesOfOneBlobAreLoadedAfterBothAreGone) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "b", 1).ok());
  auto a = store.registry.Lookup("acme", {"a", ""});
  auto b = store.registry.Lookup("acme", {"b", ""});
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  ASSERT_TRUE(store.store->Delete("acme", "b").ok());
  store.store->CollectGarbage();
  EXPECT_TRUE((*a)->source->Load(**a).ok());
  EXPECT_TRUE((*b)->source->Load(**b).ok());
  // A new upload of the same bytes revives the file.
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  EXPECT_EQ(Blobs().size(), 1u);
  EXPECT_EQ(store.store->Stats().garbage_bytes, 0u);
  EXPECT_TRUE((*a)->source->Load(**a).ok());
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  a = absl::CancelledError();
  b = absl::CancelledError();
  store.store->CollectGarbage();
  EXPECT_TRUE(Blobs().empty());
}

}  // namespace
}  // namespace descant
