// Backup by plain copy, and real limits of the file system.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "adapters/store_verify.h"
#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

// As cp -a in the order that adapters/README.md asks for: journal and FORMAT
// first, then the rest.
void CopyStore(const std::string& from, const std::string& to) {
  stdfs::create_directory(to);
  for (const char* file : {"/FORMAT", "/journal"}) {
    stdfs::copy_file(from + file, to + file);
  }
  // A blob may go while the folder is walked: cp says so and goes on.
  for (const auto& tenant : stdfs::directory_iterator(from + "/blobs")) {
    const stdfs::path there =
        stdfs::path(to) / "blobs" / tenant.path().filename();
    stdfs::create_directories(there);
    for (const auto& blob : stdfs::directory_iterator(tenant.path())) {
      std::error_code gone;
      stdfs::copy_file(blob.path(), there / blob.path().filename(), gone);
    }
  }
}

TEST_F(StoreTest, ACopyOfARunningStoreHasWhatWasAcknowledgedBefore) {
  TestStore store;
  store.options.max_versions = 2;
  store.options.rotate_bytes = 3000;
  store.options.garbage_grace = std::chrono::minutes(10);
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> changes{0};
  std::thread writer([&] {
    for (uint64_t i = 0; !stop.load(); ++i) {
      EXPECT_TRUE(store.Upload("acme", "busy", i % 4, true).ok());
      EXPECT_TRUE(store.Upload("acme", "coming", i % 3, true).ok());
      if (i % 3 == 2) {
        EXPECT_TRUE(store.store->Delete("acme", "coming").ok());
      }
      store.store->CollectGarbage();
      ++changes;
    }
  });
  for (int round = 0; round < 6; ++round) {
    const std::string name = absl::StrCat("kept", round);
    ASSERT_TRUE(store.Upload("acme", name, static_cast<uint64_t>(round)).ok());
    const std::string copy = absl::StrCat(parent_, "/copy", round);
    const uint64_t before = changes.load();
    CopyStore(root_, copy);
    const auto found =
        VerifyStoreDirectory(&fs_, copy, [](const VerifyResult& result) {
          EXPECT_TRUE(result.status.ok()) << result.info.name;
        });
    ASSERT_TRUE(found.ok()) << found.status();
    TestStore restored;
    ASSERT_TRUE(restored.Open(&fs_, copy).ok());
    EXPECT_EQ(restored.store->recovery().corrupt, 0);
    for (int i = 0; i <= round; ++i) {
      const auto kept =
          restored.registry.Lookup("acme", {absl::StrCat("kept", i), ""});
      ASSERT_TRUE(kept.ok()) << i;
      EXPECT_TRUE((*kept)->source->Load(**kept).ok());
    }
    EXPECT_TRUE(restored.Upload("acme", "later", 7).ok());
    while (changes.load() < before + 3) std::this_thread::yield();
  }
  stop.store(true);
  writer.join();
}

// A limit on the size of files: short writes for real.
TEST_F(StoreTest, ShortWritesForReal) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  const uint64_t size = store.store->Stats().journal_bytes;
  struct rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = old;
  small.rlim_cur = size + 20;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status deleted = store.store->Delete("acme", "a");
  const absl::Status uploaded = store.Upload("acme", "b", 2).status();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(Outcome(deleted), "RESOURCE_EXHAUSTED STORE_FULL");
  EXPECT_EQ(Outcome(uploaded), "RESOURCE_EXHAUSTED STORE_FULL");
  EXPECT_FALSE(store.store->read_only());
  EXPECT_EQ(stdfs::file_size(root_ + "/journal"), size);
  EXPECT_EQ(store.Served().size(), 1u);
  EXPECT_TRUE(store.Upload("acme", "b", 2).ok());
  EXPECT_TRUE(store.store->Delete("acme", "a").ok());
}

}  // namespace
}  // namespace descant
