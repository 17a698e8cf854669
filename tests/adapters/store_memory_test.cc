// What a registered adapter costs.
#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/adapters/store_fixture.h"
#include "tests/testing/crash_fs.h"

namespace descant {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMeasurable = false;  // the allocator is not malloc's own
#else
constexpr bool kMeasurable = true;
#endif

size_t HeapInUse() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

// 10,000 adapters of one version each, names of 12 characters, as a restart
// finds them: at most 1 KB of heap for each.
TEST(StoreMemoryTest, TenThousandRegisteredAdapters) {
  constexpr int kAdapters = 10000;
  CrashFs::Snapshot disk;
  {
    // One file stands for all, under other names: a start reads headers only.
    CrashFs fs(CrashFs::Snapshot{{"/disk"}, {}});
    TestStore store;
    ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
    const AdapterFiles files = SmallAdapter(1);
    AdapterInfo info = store
                           .Send(TestStore::SpecOf("acme", "a", files),
                                 files.safetensors_bytes)
                           ->info;
    info.base_model_name = "HuggingFaceTB/SmolLM2-135M-Instruct";
    disk = fs.Current();
    const std::string blob =
        disk.files.at(BlobPath("/disk/store/blobs", info.tenant, info.digest));
    std::string& journal = disk.files.at("/disk/store/journal");
    for (int i = 0; i < kAdapters; ++i) {
      info.name = absl::StrFormat("adapter-%04d", i);
      info.digest = "sha256:" + HexOf(Sha256Of(info.name));
      info.version = static_cast<uint64_t>(i) + 2;
      journal += EncodeRecord({JournalRecord::Op::kPut, info});
      disk.files[BlobPath("/disk/store/blobs", info.tenant, info.digest)] =
          blob;
    }
  }
  CrashFs fs(disk);
  TestStore store;
  const size_t before = HeapInUse();
  ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
  const size_t used = HeapInUse() - before;
  ASSERT_EQ(store.registry.UsageOf("acme").adapters, kAdapters + 1);
  const size_t each = used / kAdapters;
  std::printf("%zu bytes of heap for each of %d adapters\n", each, kAdapters);
  if (kMeasurable) {
    EXPECT_GT(each, 100u);
    EXPECT_LE(each, 1024u);
  }
  // Pages of the list, first, middle and last, and the sums.
  const auto start = std::chrono::steady_clock::now();
  std::string token;
  int64_t listed = 0;
  int64_t pages = 0;
  do {
    const auto page = store.registry.List("acme", 100, token);
    ASSERT_TRUE(page.ok());
    listed += static_cast<int64_t>(page->entries.size());
    token = page->next_page_token;
    ++pages;
  } while (!token.empty());
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(listed, kAdapters + 1);
  const double each_ms =
      std::chrono::duration<double, std::milli>(took).count() /
      static_cast<double>(pages);
  std::printf("%.3f ms for a page of 100\n", each_ms);
  EXPECT_LT(each_ms, 50);
}

}  // namespace
}  // namespace descant
