// Blobs that nothing refers to, and the journal's rotation.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "adapters/journal.h"
#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

TEST_F(StoreTest, GarbageGoesAfterItsGrace) {
  TestStore store;
  store.options.max_versions = 1;
  store.options.garbage_grace = std::chrono::seconds(10);
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  const auto blobs_after = [&](int seconds) {
    store.clock.Advance(std::chrono::seconds(seconds));
    store.store->CollectGarbage();
    return Blobs().size();
  };
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
  EXPECT_EQ(blobs_after(9), 2u);
  EXPECT_GT(store.store->Stats().garbage_bytes, 0u);
  EXPECT_EQ(blobs_after(1), 1u);
  EXPECT_EQ(store.store->Stats().garbage_bytes, 0u);
  // Uploaded again in time, it is no garbage any more, nor from the old time.
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  EXPECT_EQ(blobs_after(5), 1u);
  ASSERT_TRUE(store.Upload("acme", "b", 2).ok());
  EXPECT_EQ(store.store->Stats().garbage_bytes, 0u);
  EXPECT_EQ(blobs_after(100), 1u);
  ASSERT_TRUE(store.store->Delete("acme", "b").ok());
  EXPECT_EQ(blobs_after(9), 1u);
  EXPECT_EQ(blobs_after(1), 0u);
}

TEST_F(StoreTest, AStartRemovesGarbage) {
  {
    TestStore store;
    store.options.garbage_grace = std::chrono::hours(1);
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.store->Delete("acme", "a").ok());
    EXPECT_EQ(Blobs().size(), 1u);
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_TRUE(Blobs().empty());
}

TEST_F(StoreTest, HeldBlobsStay) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  auto files = store.store->OpenFiles(*store.registry.Get("acme", "a"));
  ASSERT_TRUE(files.ok());
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  store.store->CollectGarbage();
  EXPECT_EQ(Blobs().size(), 1u);
  EXPECT_TRUE((*files)->Finish().ok());
  files->reset();
  // What cannot be removed now is removed later.
  ArmFailpoint("store.before_blob_remove", FailAction::kError);
  store.store->CollectGarbage();
  EXPECT_EQ(Blobs().size(), 1u);
  store.store->CollectGarbage();
  EXPECT_TRUE(Blobs().empty());
}

TEST_F(StoreTest, TheJournalIsRotated) {
  std::string history;
  uint64_t last = 0;
  const StoreOptions options{.max_versions = 2,
                             .garbage_grace = Duration::zero(),
                             .rotate_bytes = 4000};
  {
    TestStore store;
    store.options = options;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "kept", 7).ok());
    uint64_t largest = 0;
    for (uint64_t i = 0; i < 40; ++i) {
      last = store.Upload("acme", "a", i % 5, true)->info.version;
      ASSERT_TRUE(store.Upload("acme", "gone", i % 3).ok());
      ASSERT_TRUE(store.store->Delete("acme", "gone").ok());
      largest = std::max(largest, store.store->Stats().journal_bytes);
      EXPECT_EQ(store.store->Stats().journal_bytes,
                stdfs::file_size(root_ + "/journal"));
    }
    EXPECT_LT(largest, 5000u);
    EXPECT_LT(store.store->Stats().journal_bytes, 4000u);
    history = store.History("acme", "a") + store.History("acme", "kept");
  }
  EXPECT_FALSE(stdfs::exists(root_ + "/journal.new"));
  TestStore store;
  store.options = options;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.History("acme", "a") + store.History("acme", "kept"),
            history);
  EXPECT_EQ(store.registry.TotalUsage().adapters, 2);
  // The number of a deletion is not given again.
  EXPECT_GT(store.Upload("acme", "b", 1)->info.version, last + 2);
}

TEST_F(StoreTest, AJournalOfLiveRecordsIsNotRotated) {
  TestStore store;
  store.options.rotate_bytes = 1000;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  for (uint64_t i = 0; i < 12; ++i) {
    ASSERT_TRUE(store.Upload("acme", absl::StrCat("n", i), 1).ok());
  }
  EXPECT_GT(store.store->Stats().journal_bytes, 3000u);
  EXPECT_EQ(DecodeJournal(Slurp(root_ + "/journal")).records[0].op,
            JournalRecord::Op::kPut);
}

// Failures before the rename leave the old journal in use, those after it end
// writing; what was acknowledged is there in any case.
TEST_F(StoreTest, FailedRotations) {
  const struct {
    const char* point;
    bool read_only;
  } kCases[] = {{"store.before_rotate", false},
                {"store.before_rotate_sync", false},
                {"store.before_rotate_rename", false},
                {"store.before_rotate_directory_sync", true},
                {"store.after_rotate", true}};
  for (const auto& [point, read_only] : kCases) {
    stdfs::remove_all(root_);
    std::map<std::string, std::string> served;
    {
      TestStore store;
      store.options.max_versions = 1;
      store.options.rotate_bytes = 1000;
      ASSERT_TRUE(store.Open(&fs_, root_).ok());
      ArmFailpoint(point, FailAction::kError);
      uint64_t i = 0;
      while (i < 30 && !store.store->read_only()) {
        ASSERT_TRUE(store.Upload("acme", "a", ++i, true).ok()) << point;
      }
      EXPECT_EQ(store.store->read_only(), read_only) << point;
      EXPECT_LT(store.store->Stats().journal_bytes, 3000u);
      EXPECT_FALSE(stdfs::exists(root_ + "/journal.new")) << point;
      served = store.Served();
      DisarmFailpoints();
    }
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_EQ(store.Served(), served) << point;
    EXPECT_TRUE(store.Upload("acme", "b", 1).ok());
  }
}

}  // namespace
}  // namespace descant
