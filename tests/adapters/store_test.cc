// The store on the real file system, the journal, and rows 7, 12 to 19 and 95
// to 98 as far as they are the store's.
#include "adapters/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

TEST_F(StoreTest, UploadsSurviveARestart) {
  std::map<std::string, std::string> served;
  double created = 0;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    created = store.clock.UnixSeconds();
    const auto first = store.Upload("acme", "a", 1);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->outcome, PublishOutcome::kCreated);
    EXPECT_EQ(first->info.version, 1u);
    ASSERT_TRUE(store.Upload("acme", "b", 2).ok());
    ASSERT_TRUE(store.Upload("other", "a", 3).ok());
    ASSERT_TRUE(store.store->Delete("acme", "b").ok());
    served = store.Served();
    EXPECT_EQ(served.size(), 2u);
  }
  TestStore again;
  ASSERT_TRUE(again.Open(&fs_, root_).ok());
  EXPECT_EQ(again.Served(), served);
  EXPECT_EQ(again.store->recovery().ready, 2);
  const auto entry = again.registry.Get("acme", "a");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->info.version, 1u);
  EXPECT_EQ(entry->info.max_rank, 2);
  EXPECT_EQ(entry->info.num_modules, 4);
  EXPECT_EQ(entry->info.created_unix, created);
  // The tensors too.
  const AdapterFiles files = TinyAdapter(1);
  const auto made =
      MakeAdapter("acme", "a", files.config_json,
                  BytesOf(files.safetensors_bytes), TinyBase(), {});
  EXPECT_EQ(entry->info.module_kinds, 0x5u);
  EXPECT_EQ(entry->adapter->module_kinds, (*made)->module_kinds);
  EXPECT_GT(entry->info.parameters, 0u);
  EXPECT_TRUE(entry->adapter->modules.empty());
  const auto loaded = entry->adapter->source->Load(*entry->adapter);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->digest, (*made)->digest);
  EXPECT_EQ((*loaded)->source, nullptr);
  const AdapterMatrix& stored = (*loaded)->modules[2].b;
  EXPECT_EQ(std::string(static_cast<const char*>(stored.data), 8 * 2 * 2),
            std::string(static_cast<const char*>((*made)->modules[2].b.data),
                        8 * 2 * 2));
  EXPECT_EQ(again.Upload("acme", "c", 4)->info.version, 5u);
}

TEST_F(StoreTest, NoClientStringBecomesAPath) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("../../tenant", "name", 1).ok());
  ASSERT_EQ(Blobs().size(), 1u);
  const stdfs::path blob = Blobs()[0];
  EXPECT_TRUE(IsSha256Hex(blob.filename().string()));
  EXPECT_EQ(blob.parent_path().parent_path(), root_ + "/blobs");
  EXPECT_EQ(blob.parent_path().filename().string().size(), 32u);
  struct stat info = {};
  ASSERT_EQ(::stat(root_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(::stat(blob.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(StoreTest, Rows15To18PublishConditions) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  const auto same = store.Upload("acme", "a", 1);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(same->outcome, PublishOutcome::kUnchanged);
  EXPECT_EQ(same->info.version, 1u);
  EXPECT_EQ(Outcome(store.Upload("acme", "a", 2).status()),
            "ALREADY_EXISTS ADAPTER_EXISTS");
  const auto replaced = store.Upload("acme", "a", 2, /*replace=*/true);
  ASSERT_TRUE(replaced.ok());
  EXPECT_EQ(replaced->outcome, PublishOutcome::kReplaced);
  EXPECT_EQ(Blobs().size(), 2u);
  // Two begun at once with the same expectation: one wins.
  UploadSpec spec = TestStore::Spec("acme", "a", 3);
  spec.condition.expected_version = replaced->info.version;
  const std::string bytes = TinyAdapter(3).safetensors_bytes;
  auto one = store.store->BeginUpload(spec);
  auto two = store.store->BeginUpload(spec);
  ASSERT_TRUE((*one)->Append(BytesOf(bytes)).ok());
  ASSERT_TRUE((*two)->Append(BytesOf(bytes)).ok());
  EXPECT_TRUE((*one)->Commit().ok());
  EXPECT_EQ(Outcome((*two)->Commit().status()),
            "ABORTED ADAPTER_VERSION_MISMATCH");
  two->reset();
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(StoreTest, SharedBlobsLiveAsLongAsAName) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  const auto blobs = [&] {
    store.store->CollectGarbage();
    return Blobs().size();
  };
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "b", 1).ok());
  EXPECT_EQ(blobs(), 1u);
  ASSERT_TRUE(store.Upload("other", "a", 1).ok());
  EXPECT_EQ(blobs(), 2u);  // never shared between tenants
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  EXPECT_EQ(blobs(), 2u);
  ASSERT_TRUE(store.store->Delete("acme", "b").ok());
  EXPECT_EQ(blobs(), 1u);
  EXPECT_EQ(Outcome(store.store->Delete("acme", "b")),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

TEST_F(StoreTest, Row7Sha256) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  UploadSpec spec = TestStore::Spec("acme", "a", 1);
  const std::string bytes = TinyAdapter(1).safetensors_bytes;
  for (const std::string& bad :
       {std::string("ab"), std::string(64, 'g'), std::string(64, 'A')}) {
    spec.sha256 = bad;
    EXPECT_EQ(Outcome(store.store->BeginUpload(spec).status()),
              "INVALID_ARGUMENT UPLOAD_SHA256_INVALID");
  }
  spec.sha256 = std::string(64, '0');
  auto upload = store.store->BeginUpload(spec);
  ASSERT_TRUE((*upload)->Append(BytesOf(bytes)).ok());
  EXPECT_EQ(Outcome((*upload)->Commit().status()),
            "INVALID_ARGUMENT UPLOAD_SHA256_MISMATCH");
  spec.sha256 = HexOf(Sha256Of(bytes));
  auto good = store.store->BeginUpload(spec);
  ASSERT_TRUE((*good)->Append(BytesOf(bytes)).ok());
  EXPECT_TRUE((*good)->Commit().ok());
}

TEST_F(StoreTest, Row12AbandonedAndRefusedUploadsLeaveNothing) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  {
    auto upload = store.store->BeginUpload(TestStore::Spec("acme", "a", 1));
    const std::string bytes = TinyAdapter(1).safetensors_bytes;
    ASSERT_TRUE((*upload)->Append(BytesOf(bytes).subspan(0, 100)).ok());
    EXPECT_EQ(Staged(), 1u);
  }
  EXPECT_EQ(Staged(), 0u);
  {
    auto upload = store.store->BeginUpload(TestStore::Spec("acme", "a", 1));
    const std::string garbage(64, 'x');
    const absl::Status refused = (*upload)->Append(BytesOf(garbage));
    EXPECT_EQ(Outcome(refused), "INVALID_ARGUMENT SAFETENSORS_HEADER_LENGTH");
    EXPECT_EQ((*upload)->Commit().status(), refused);
  }
  EXPECT_EQ(Staged(), 0u);
  EXPECT_TRUE(store.Served().empty());
}

TEST_F(StoreTest, NamesAndBasesAreCheckedFirst) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(Outcome(store.Upload("acme", "../a", 1).status()),
            "INVALID_ARGUMENT ADAPTER_NAME_INVALID");
  EXPECT_EQ(Outcome(store.Upload("acme", "Tiny", 1).status()),
            "INVALID_ARGUMENT ADAPTER_NAME_RESERVED");
  UploadSpec spec = TestStore::Spec("acme", "a", 1);
  spec.base_fingerprint = "sha256:other";
  EXPECT_EQ(Outcome(store.store->BeginUpload(spec).status()),
            "FAILED_PRECONDITION BASE_MISMATCH");
}

TEST_F(StoreTest, AnotherBaseKeepsItsVersionsAsIncompatible) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  }
  {
    TestStore other;
    ASSERT_TRUE(other.Open(&fs_, root_, "sha256:other").ok());
    EXPECT_EQ(other.store->recovery().incompatible, 1);
    EXPECT_EQ(Outcome(other.registry.Lookup("acme", {"a", ""}).status()),
              "FAILED_PRECONDITION ADAPTER_INCOMPATIBLE");
  }
  EXPECT_EQ(Blobs().size(), 1u);
  TestStore again;
  ASSERT_TRUE(again.Open(&fs_, root_).ok());
  EXPECT_TRUE(again.registry.Lookup("acme", {"a", ""}).ok());
}

// Row 95: each kind of damage hurts its own adapter only.
TEST_F(StoreTest, Row95DamagedBlobsAreQuarantined) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "good", 1).ok());
    ASSERT_TRUE(store.Upload("other", "bad", 2).ok());
  }
  stdfs::path victim;
  for (const auto& path : Blobs()) {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    const auto bad = store.registry.Get("other", "bad");
    if ("sha256:" + path.filename().string() == bad->info.digest) victim = path;
  }
  const std::string content = Slurp(victim);
  std::vector<std::string> damaged = {
      content.substr(0, content.size() - 1), content.substr(0, 10), "",
      std::string(content.size(), '\0'), content + "x"};
  for (size_t byte = 0; byte < content.size(); byte += 61) {
    // The header's last word and the config's ignored keys carry no meaning.
    std::string flipped = content;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 0x10);
    damaged.push_back(flipped);
  }
  size_t harmless = 0;
  size_t at_start = 0;
  size_t at_load = 0;
  for (const std::string& bytes : damaged) {
    Spit(victim, bytes);
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_TRUE(store.registry.Lookup("acme", {"good", ""}).ok());
    const auto bad = store.registry.Lookup("other", {"bad", ""});
    if (!bad.ok()) {
      // Its size or its header shows at the start.
      EXPECT_EQ(Outcome(bad.status()), "DATA_LOSS ADAPTER_DATA_LOSS");
      EXPECT_EQ(store.store->recovery().corrupt, 1);
      ++at_start;
      continue;
    }
    const auto loaded = (*bad)->source->Load(**bad);
    if (loaded.ok()) {
      ++harmless;  // the digest holds: the meaning is unchanged
      continue;
    }
    // What the tensors hide shows when they are loaded, then for everybody.
    EXPECT_EQ(Outcome(loaded.status()), "DATA_LOSS ADAPTER_DATA_LOSS");
    EXPECT_EQ(Outcome(store.registry.Lookup("other", {"bad", ""}).status()),
              "DATA_LOSS ADAPTER_DATA_LOSS");
    EXPECT_EQ(store.registry.Get("other", "bad")->state,
              AdapterState::kCorrupt);
    ++at_load;
  }
  EXPECT_LT(harmless, damaged.size() / 3);
  EXPECT_GE(at_start, 5u);
  EXPECT_GT(at_load, damaged.size() / 2);
  stdfs::remove(victim);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(Outcome(store.registry.Lookup("other", {"bad", ""}).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  // The same upload repairs it.
  EXPECT_EQ(store.Upload("other", "bad", 2)->outcome,
            PublishOutcome::kReplaced);
  EXPECT_TRUE(store.registry.Lookup("other", {"bad", ""}).ok());
}

TEST_F(StoreTest, Row96JournalTornAtAnyByte) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.Upload("acme", "b", 2).ok());
  }
  const std::string journal = Slurp(root_ + "/journal");
  const JournalContent whole = DecodeJournal(journal);
  ASSERT_EQ(whole.records.size(), 2u);
  ASSERT_EQ(whole.valid_bytes, journal.size());
  for (size_t size = 8; size <= journal.size(); ++size) {
    const JournalContent content =
        DecodeJournal(absl::string_view(journal).substr(0, size));
    EXPECT_LE(content.valid_bytes, size);
    EXPECT_LE(content.records.size(), 2u);
    if (content.records.size() == 2) {
      EXPECT_EQ(size, journal.size());
    }
  }
  // A flipped bit ends the valid prefix before its record.
  for (size_t byte = 8; byte < journal.size(); ++byte) {
    std::string flipped = journal;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 1);
    EXPECT_LT(DecodeJournal(flipped).records.size(), 2u) << byte;
  }
  // Garbage behind is cut off and the next record goes in its place.
  Spit(root_ + "/journal", journal + std::string("\x20\0\0\0garbage", 11));
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_EQ(store.Served().size(), 2u);
    ASSERT_TRUE(store.Upload("acme", "c", 3).ok());
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.Served().size(), 3u);
}

// A flipped bit before the last record is no torn write: what follows was
// acknowledged, and cutting it off would remove its files as well.
TEST_F(StoreTest, Row96DamageWithinTheJournalDeletesNothing) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    for (uint64_t i = 1; i < 4; ++i) {
      ASSERT_TRUE(store.Upload("acme", absl::StrCat("n", i), i).ok());
    }
  }
  const std::string journal = Slurp(root_ + "/journal");
  const size_t last = journal.rfind("{\"op\":\"put\"") - 8;
  for (size_t byte = 8; byte < last; byte += 7) {
    std::string flipped = journal;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 4);
    Spit(root_ + "/journal", flipped);
    TestStore store;
    EXPECT_EQ(Outcome(store.Open(&fs_, root_)), "DATA_LOSS STORE_CORRUPT")
        << byte;
  }
  EXPECT_EQ(Blobs().size(), 3u);
  Spit(root_ + "/journal", journal);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.store->recovery().ready, 3);
}

TEST_F(StoreTest, Row96FormatsAndDamagedHeads) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  }
  const auto open = [this] {
    TestStore store;
    return Outcome(store.Open(&fs_, root_));
  };
  Spit(root_ + "/FORMAT", "4\n");
  EXPECT_EQ(open(), "FAILED_PRECONDITION STORE_FORMAT_NEWER");
  for (const std::string& bad :
       {std::string(), std::string("x"), std::string("-1"), std::string("0"),
        std::string("1x"), "1\n" + std::string(100, ' ')}) {
    Spit(root_ + "/FORMAT", bad);
    EXPECT_EQ(open(), "DATA_LOSS STORE_CORRUPT") << bad;
  }
  Spit(root_ + "/FORMAT", "3\n");
  const std::string journal = Slurp(root_ + "/journal");
  Spit(root_ + "/journal", "X" + journal.substr(1));
  EXPECT_EQ(open(), "DATA_LOSS STORE_CORRUPT");
  EXPECT_EQ(Blobs().size(), 1u);  // nothing is deleted on a doubt
  Spit(root_ + "/journal", journal);
  EXPECT_EQ(open(), "OK");
}

TEST_F(StoreTest, Row97LeftoversAreRemovedAndLinksNotFollowed) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  }
  const stdfs::path blob = Blobs()[0];
  const std::string outside = parent_ + "/outside";
  Spit(outside, "precious");
  stdfs::create_directory(parent_ + "/outside_dir");
  Spit(parent_ + "/outside_dir/file", "precious");
  Spit(root_ + "/staging/17", "left over");
  stdfs::create_symlink(outside, root_ + "/staging/link");
  stdfs::create_directory_symlink(parent_ + "/outside_dir",
                                  root_ + "/blobs/linked");
  Spit(blob.parent_path() / std::string(64, '0'), "unreferenced");
  stdfs::create_directory(root_ + "/blobs/empty");
  ASSERT_EQ(::mkfifo((root_ + "/staging/fifo").c_str(), 0600), 0);
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_GE(store.store->recovery().removed_files, 5);
    EXPECT_EQ(store.Served().size(), 1u);
  }
  EXPECT_EQ(Staged(), 0u);
  EXPECT_EQ(Blobs().size(), 1u);
  EXPECT_EQ(Slurp(outside), "precious");
  EXPECT_EQ(Slurp(parent_ + "/outside_dir/file"), "precious");
  // A link in a blob's place is damage, not a way out.
  stdfs::remove(blob);
  stdfs::create_symlink(outside, blob);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.store->recovery().corrupt, 1);
}

TEST_F(StoreTest, Row98OneProcessAtATime) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  TestStore second;
  EXPECT_EQ(Outcome(second.Open(&fs_, root_)), "UNAVAILABLE STORE_LOCKED");
}

TEST_F(StoreTest, AFailedSyncMakesTheStoreReadOnly) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ArmFailpoint("store.before_journal_sync", FailAction::kError);
  EXPECT_EQ(Outcome(store.Upload("acme", "b", 2).status()),
            "FAILED_PRECONDITION STORE_READ_ONLY");
  EXPECT_TRUE(store.store->read_only());
  EXPECT_EQ(Outcome(store.store->Delete("acme", "a")),
            "FAILED_PRECONDITION STORE_READ_ONLY");
  EXPECT_TRUE(store.registry.Lookup("acme", {"a", ""}).ok());
}

TEST(JournalTest, Crc32cOfTheStandardVector) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  std::string bytes;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Crc32c(bytes), Crc32cPortable(bytes)) << i;
    bytes += static_cast<char>(i * 37);
  }
}

TEST(JournalTest, RecordsAreReadBack) {
  JournalRecord record;
  record.info.tenant = "t\"\n\xc3\xa9";
  record.info.name = "n";
  record.info.digest = "sha256:x";
  record.info.version = 1ull << 60;
  record.info.base_model_name = "a\\b";
  const JournalContent content =
      DecodeJournal("DSCJRNL1" + EncodeRecord(record));
  ASSERT_EQ(content.records.size(), 1u);
  EXPECT_EQ(content.records[0].info.tenant, record.info.tenant);
  EXPECT_EQ(content.records[0].info.version, record.info.version);
  EXPECT_EQ(content.records[0].info.base_model_name, "a\\b");
}

}  // namespace
}  // namespace descant
