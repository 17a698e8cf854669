// Reading what is stored and comparing it with its digest: downloads, Verify,
// the scrubber, and the check of a directory without a server.
#include "adapters/store_verify.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "adapters/blob.h"
#include "adapters/store_scrubber.h"
#include "tests/adapters/store_fixture.h"
#include "tests/testing/crash_fs.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

// Of a name's current version.
std::string PathIn(const std::string& root, const AdapterInfo& info) {
  return BlobPath(root + "/blobs", info.tenant, info.digest);
}

class StoreVerifyTest : public StoreTest {
 protected:
  // One bit of the tensors, far behind the header.
  void Flip(const AdapterInfo& info) {
    const std::string path = PathIn(root_, info);
    std::string content = Slurp(path);
    content[content.size() - 3] = static_cast<char>(content.back() ^ 0x10);
    Spit(path, content);
  }
};

TEST_F(StoreVerifyTest, DownloadsAreWhatWasUploaded) {
  TestStore store;
  store.options.max_versions = 1;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  RegistryEntry entry = *store.registry.Get("acme", "a");
  auto files = store.store->OpenFiles(entry);
  ASSERT_TRUE(files.ok()) << files.status();
  entry.adapter.reset();
  // The name changes and goes meanwhile.
  ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  store.store->CollectGarbage();
  const AdapterFiles uploaded = TinyAdapter(1);
  EXPECT_EQ((*files)->config_json(), uploaded.config_json);
  ASSERT_EQ((*files)->safetensors_bytes(), uploaded.safetensors_bytes.size());
  std::string read;
  std::string piece;
  while (read.size() < (*files)->safetensors_bytes()) {
    piece.resize(
        std::min<uint64_t>(7, (*files)->safetensors_bytes() - read.size()));
    ASSERT_TRUE((*files)->Read(read.size(), absl::MakeSpan(piece)).ok());
    read += piece;
  }
  EXPECT_EQ(read, uploaded.safetensors_bytes);
  EXPECT_TRUE((*files)->Finish().ok());
  files->reset();
  store.store->CollectGarbage();
  EXPECT_EQ(Outcome(store.store->OpenFiles(entry).status()),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

TEST_F(StoreVerifyTest, DamagedDownloadsSaySoAtTheEndAndQuarantine) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "same", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
  ASSERT_TRUE(store.store->Rollback("acme", {"a", ""}).ok());
  const RegistryEntry entry = *store.registry.Get("acme", "a");
  Flip(entry.info);
  std::vector<uint64_t> changed;
  store.registry.SetListener(
      [&](RegistryChange change, const RegistryEntry& now) {
        EXPECT_EQ(change, RegistryChange::kStateChanged);
        changed.push_back(now.info.version);
      });
  auto files = store.store->OpenFiles(entry);
  ASSERT_TRUE(files.ok());
  // Read out of order: Finish reads the rest itself.
  std::string piece(3, '\0');
  EXPECT_TRUE((*files)->Read(100, absl::MakeSpan(piece)).ok());
  EXPECT_EQ(Outcome((*files)->Finish()), "DATA_LOSS ADAPTER_DATA_LOSS");
  // Every version of these bytes is damaged, the one between is not.
  std::sort(changed.begin(), changed.end());
  EXPECT_EQ(changed, (std::vector<uint64_t>{1, 2, 4}));
  store.registry.SetListener(nullptr);
  EXPECT_EQ(Outcome(store.registry.Lookup("acme", {"same", ""}).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  EXPECT_EQ(Outcome(store.store->OpenFiles(entry).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  EXPECT_EQ(store.store->Stats().quarantined, 3);
  EXPECT_EQ(Outcome(store.store->Rollback("acme", {"same", ""}).status()),
            "NOT_FOUND ADAPTER_NOT_FOUND");
  // Going back to what is damaged is refused, to what is sound is not.
  EXPECT_TRUE(store.store->Rollback("acme", {"a", ""}).ok());
  EXPECT_EQ(Outcome(store.store->Rollback("acme", {"a", ""}).status()),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  // Never collected while a version names it.
  store.store->CollectGarbage();
  EXPECT_TRUE(stdfs::exists(PathIn(root_, entry.info)));
  // The same content again repairs all of them.
  const auto repaired = store.Upload("acme", "same", 1);
  ASSERT_TRUE(repaired.ok());
  EXPECT_EQ(repaired->outcome, PublishOutcome::kReplaced);
  EXPECT_EQ(store.store->Stats().quarantined, 0);
  for (const auto& [name, digest] : store.Served()) {
    EXPECT_NE(digest, "damaged") << name;
  }
  const auto pinned = store.registry.Lookup("acme", {"a", entry.info.digest});
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_TRUE((*pinned)->source->Load(**pinned).ok());
}

TEST_F(StoreVerifyTest, VerifyNeedsNoBaseModel) {
  AdapterInfo good;
  AdapterInfo bad;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    good = store.Upload("acme", "good", 1)->info;
    bad = store.Upload("acme", "bad", 2)->info;
  }
  Flip(bad);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_, "sha256:other").ok());
  EXPECT_EQ(store.store->AllVersions().size(), 2u);
  const VerifyResult sound = store.store->Verify(good);
  EXPECT_TRUE(sound.status.ok()) << sound.status;
  EXPECT_EQ(sound.bytes, good.file_bytes);
  EXPECT_EQ(Outcome(store.store->Verify(bad).status),
            "DATA_LOSS ADAPTER_DATA_LOSS");
  EXPECT_EQ(store.registry.Get("acme", "bad")->state, AdapterState::kCorrupt);
  EXPECT_EQ(store.registry.Get("acme", "good")->state,
            AdapterState::kIncompatible);
  // What an operator put back by hand is sound again.
  Flip(bad);
  std::string content = Slurp(PathIn(root_, bad));
  const AdapterFiles files = TinyAdapter(2);
  Spit(PathIn(root_, bad),
       EncodeBlobPrefix(files.config_json, files.safetensors_bytes.size()) +
           files.safetensors_bytes);
  EXPECT_TRUE(store.store->Verify(bad).status.ok());
  EXPECT_EQ(store.registry.Get("acme", "bad")->state,
            AdapterState::kIncompatible);
  AdapterInfo gone = good;
  gone.digest[10] = gone.digest[10] == '0' ? '1' : '0';
  EXPECT_EQ(Outcome(store.store->Verify(gone).status),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

TEST_F(StoreVerifyTest, TheScrubberFindsDamageAtItsPace) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < 8; ++i) {
    const std::string name = absl::StrCat("n", i / 2);
    bytes += store.Upload("acme", name, i, true)->info.file_bytes;
  }
  ASSERT_TRUE(store.store->Rollback("acme", {"n0", ""}).ok());
  // Half of a file a second.
  ScrubberOptions options;
  options.bytes_per_second = bytes / 16;
  options.interval = std::chrono::hours(1);
  StoreScrubber scrubber(store.store.get(), &store.clock, options);
  Flip(store.registry.Get("acme", "n2")->info);
  scrubber.Tick();
  EXPECT_EQ(scrubber.progress().bytes, 0u);  // no time has passed
  const auto tick = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) {
      store.clock.Advance(std::chrono::seconds(1));
      scrubber.Tick();
    }
  };
  tick(8);
  EXPECT_EQ(scrubber.progress().walks, 0u);
  EXPECT_GE(scrubber.progress().bytes, bytes / 4);
  EXPECT_LE(scrubber.progress().bytes, bytes * 3 / 4);
  tick(24);
  EXPECT_EQ(scrubber.progress().walks, 1u);
  EXPECT_EQ(scrubber.progress().damaged, 1u);
  EXPECT_GE(scrubber.progress().versions, 8u);
  EXPECT_EQ(store.registry.Get("acme", "n2")->state, AdapterState::kCorrupt);
  EXPECT_EQ(store.store->Stats().quarantined, 1);
  // Then it rests, and what has changed since is seen by the next walk.
  const uint64_t before = scrubber.progress().bytes;
  tick(100);
  EXPECT_EQ(scrubber.progress().bytes, before);
  Flip(store.registry.Get("acme", "n3")->info);
  ASSERT_TRUE(store.store->Delete("acme", "n0").ok());
  store.clock.Advance(std::chrono::hours(1));
  tick(40);
  EXPECT_EQ(scrubber.progress().walks, 2u);
  EXPECT_EQ(store.registry.Get("acme", "n3")->state, AdapterState::kCorrupt);
}

TEST_F(StoreVerifyTest, ADirectoryIsCheckedWithoutAServer) {
  std::vector<AdapterInfo> infos;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    for (uint64_t i = 1; i < 5; ++i) {
      infos.push_back(store.Upload("acme", absl::StrCat("n", i), i)->info);
    }
    ASSERT_TRUE(store.Upload("acme", "n1", 9, true).ok());
    ASSERT_TRUE(store.store->Rollback("acme", {"n1", ""}).ok());
  }
  std::set<std::string> damaged;
  const auto check = [&] {
    damaged.clear();
    return VerifyStoreDirectory(&fs_, root_, [&](const VerifyResult& result) {
      if (!result.status.ok()) damaged.insert(result.info.name);
    });
  };
  auto found = check();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->sound());
  EXPECT_TRUE(found->locked);
  EXPECT_EQ(found->format, 3);
  EXPECT_EQ(found->adapters, 4);
  EXPECT_EQ(found->versions, 6);
  EXPECT_EQ(found->extra_files, 0);
  EXPECT_EQ(found->torn_journal_bytes, 0u);
  EXPECT_EQ(found->bytes, 5 * infos[0].file_bytes);  // shared ones once
  // Every kind of damage, and what a crash or a hand may leave.
  Flip(infos[0]);
  stdfs::remove(PathIn(root_, infos[1]));
  stdfs::create_symlink(root_ + "/FORMAT", PathIn(root_, infos[1]));
  stdfs::resize_file(PathIn(root_, infos[2]), 50);
  Spit(root_ + "/journal", Slurp(root_ + "/journal") + "torn tail");
  Spit(root_ + "/staging/5", "x");
  Spit(root_ + "/notes\x1b.txt", "x");
  const std::string tenant =
      stdfs::path(PathIn(root_, infos[0])).parent_path().string();
  Spit(tenant + "/other", "x");
  ASSERT_EQ(::mkfifo((root_ + "/blobs/fifo").c_str(), 0600), 0);
  found = check();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(damaged, (std::set<std::string>{"n1", "n2", "n3"}));
  EXPECT_EQ(found->damaged, 4);  // n1 in two of its versions
  EXPECT_FALSE(found->sound());
  EXPECT_EQ(found->torn_journal_bytes, 9u);
  EXPECT_EQ(found->extra_files, 4);
  for (const std::string& path : found->extra_paths) {
    EXPECT_EQ(path.find('\x1b'), std::string::npos);
  }
  {
    // Beside a server too, which it does not disturb.
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_FALSE(check()->locked);
    EXPECT_TRUE(store.Upload("acme", "later", 7).ok());
  }
  Spit(root_ + "/FORMAT", "4\n");
  EXPECT_EQ(Outcome(check().status()),
            "FAILED_PRECONDITION STORE_FORMAT_NEWER");
  EXPECT_EQ(
      VerifyStoreDirectory(&fs_, parent_ + "/none", [](const VerifyResult&) {})
          .status()
          .code(),
      absl::StatusCode::kNotFound);
}

// Row 95 at size: 1,000 adapters, each tenth damaged in one of five ways.
TEST(StoreDamageTest, AThousandAdaptersOfWhichATenthIsDamaged) {
  constexpr int kAdapters = 1000;
  CrashFs::Snapshot disk;
  std::vector<AdapterInfo> infos;
  {
    CrashFs fs(CrashFs::Snapshot{{"/disk"}, {}});
    TestStore store;
    ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
    for (uint64_t i = 0; i < kAdapters; ++i) {
      const AdapterFiles files = SmallAdapter(i);
      const auto sent =
          store.Send(TestStore::SpecOf("t", absl::StrCat("n", i), files),
                     files.safetensors_bytes);
      ASSERT_TRUE(sent.ok()) << sent.status();
      infos.push_back(sent->info);
    }
    disk = fs.Current();
  }
  for (size_t i = 0; i < infos.size(); i += 10) {
    const std::string path = PathIn("/disk/store", infos[i]);
    std::string& content = disk.files.at(path);
    switch (i / 10 % 5) {
      case 0:
        disk.files.erase(path);
        break;
      case 1:
        content.resize(content.size() - 1 - i % 40);
        break;
      case 2:
        content += std::string(1 + i % 7, 'x');
        break;
      case 3:
        content[content.size() - 1 - i % 30] ^= 0x40;
        break;
      default:
        content[40] ^= 0x01;  // in the config
        break;
    }
  }
  CrashFs memory(disk);
  FaultFs fs(&memory);
  TestStore store;
  ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
  // A start opens each file once and reads its header and its config.
  EXPECT_LE(fs.opens(), kAdapters + 10);
  EXPECT_LE(fs.reads(), 2 * kAdapters + 10);
  EXPECT_LE(fs.calls(), 3 * kAdapters + 60);
  EXPECT_EQ(store.store->recovery().corrupt, 60);  // missing, short, extra
  EXPECT_EQ(store.store->recovery().ready, kAdapters - 60);
  // The first half by their first load, the rest by the scrubber.
  int64_t at_load = 0;
  for (size_t i = 0; i < infos.size() / 2; ++i) {
    const auto adapter = store.registry.Lookup("t", {infos[i].name, ""});
    const bool served =
        adapter.ok() && (*adapter)->source->Load(**adapter).ok();
    EXPECT_EQ(served, i % 10 != 0) << i;
    if (adapter.ok() && !served) ++at_load;
  }
  EXPECT_EQ(at_load, 20);
  EXPECT_EQ(store.store->Stats().quarantined, 80);
  StoreScrubber scrubber(store.store.get(), &store.clock, {});
  while (scrubber.progress().walks == 0) {
    store.clock.Advance(std::chrono::seconds(1));
    scrubber.Tick();
  }
  EXPECT_EQ(scrubber.progress().damaged, 20u);
  EXPECT_EQ(store.store->Stats().quarantined, 100);
  for (size_t i = 0; i < infos.size(); ++i) {
    EXPECT_EQ(Outcome(store.registry.Lookup("t", {infos[i].name, ""}).status()),
              i % 10 == 0 ? "DATA_LOSS ADAPTER_DATA_LOSS" : "OK");
  }
  // The damaged ones are listed, keep their bytes, and are repaired one by one.
  store.store->CollectGarbage();
  EXPECT_EQ(memory.Current().files.size(), disk.files.size());
  for (size_t i = 0; i < infos.size(); i += 10) {
    EXPECT_EQ(store.registry.Get("t", infos[i].name)->state,
              AdapterState::kCorrupt);
    const AdapterFiles files = SmallAdapter(i);
    ASSERT_TRUE(store
                    .Send(TestStore::SpecOf("t", infos[i].name, files),
                          files.safetensors_bytes)
                    .ok());
  }
  EXPECT_EQ(store.store->Stats().quarantined, 0);
}

}  // namespace
}  // namespace descant
