// Quotas: checked and reserved before a byte is kept, given back once, however
// an upload ends.
#include "adapters/store_quota.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

TEST(QuotaLedgerTest, LimitsAreOfTenantAndServer) {
  QuotaLedger ledger(
      {.max_adapters = 3, .max_bytes = 100, .max_uploads = 4},
      {.max_adapters = 2, .max_bytes = 70, .max_staged_bytes = 60});
  const auto check = [&](const std::string& tenant, const StoreUsage& more) {
    return Outcome(ledger.Check(tenant, more, {}));
  };
  EXPECT_EQ(check("a", {.adapters = 2}), "OK");
  EXPECT_EQ(check("a", {.adapters = 3}), "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_EQ(check("a", {.staged_bytes = 60}), "OK");
  EXPECT_EQ(check("a", {.staged_bytes = 61}),
            "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  EXPECT_EQ(check("a", {.staged_bytes = UINT64_MAX}),
            "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  ledger.Add("a", {.adapters = 2, .stored_bytes = 60, .uploads = 3});
  EXPECT_EQ(check("a", {.staged_bytes = 10}), "OK");
  EXPECT_EQ(check("a", {.staged_bytes = 11}), "RESOURCE_EXHAUSTED STORE_QUOTA");
  EXPECT_EQ(check("b", {.adapters = 1, .staged_bytes = 40, .uploads = 1}),
            "OK");
  EXPECT_EQ(check("b", {.adapters = 2}), "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_EQ(check("b", {.staged_bytes = 41}), "RESOURCE_EXHAUSTED STORE_QUOTA");
  EXPECT_EQ(check("b", {.uploads = 2}), "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  // What is over a limit that was lowered stays; asking for nothing more fits.
  ledger.Add("a", {.adapters = 5});
  EXPECT_EQ(check("a", {.uploads = 1}), "OK");
  ledger.Subtract("a", {.adapters = 7, .stored_bytes = 60, .uploads = 3});
  EXPECT_EQ(ledger.UsageOf("a"), StoreUsage());
  EXPECT_EQ(ledger.total(), StoreUsage());
}

TEST(QuotaLedgerTest, ATenantsOwnLimitsAreInPlaceOfAllTenants) {
  QuotaLedger ledger({.max_adapters = 10},
                     {.max_adapters = 2, .max_uploads = 1});
  const auto check = [&](const StoreUsage& more, const StoreQuota& own) {
    return Outcome(ledger.Check("a", more, own));
  };
  EXPECT_EQ(check({.adapters = 3}, {}), "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_EQ(check({.adapters = 3}, {.max_adapters = 3}), "OK");
  EXPECT_EQ(check({.adapters = 2}, {.max_adapters = 1}),
            "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_EQ(check({.adapters = 1, .uploads = 2}, {.max_adapters = 3}),
            "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  EXPECT_EQ(check({.staged_bytes = 11}, {.max_bytes = 10}),
            "RESOURCE_EXHAUSTED STORE_QUOTA");
  // The server's hold whatever they are.
  EXPECT_EQ(check({.adapters = 11}, {.max_adapters = 99}),
            "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
}

class StoreQuotaTest : public StoreTest {
 protected:
  uint64_t Size(uint64_t seed) {
    return TinyAdapter(seed).safetensors_bytes.size();
  }
};

TEST_F(StoreQuotaTest, AdaptersOfATenant) {
  TestStore store;
  store.options.per_tenant.max_adapters = 2;
  store.options.total.max_adapters = 3;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  {
    // Reserved by an upload in flight, for a name that is new.
    auto begun = store.store->BeginUpload(TestStore::Spec("acme", "b", 2));
    ASSERT_TRUE(begun.ok());
    EXPECT_EQ(Outcome(store.Upload("acme", "c", 3).status()),
              "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
    EXPECT_EQ(Staged(), 1u);
    EXPECT_TRUE(store.Upload("acme", "a", 4, true).ok());
  }
  EXPECT_TRUE(store.Upload("acme", "c", 3).ok());
  EXPECT_EQ(Outcome(store.Upload("acme", "b", 3).status()),
            "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_TRUE(store.Upload("other", "a", 1).ok());
  EXPECT_EQ(Outcome(store.Upload("other", "b", 1).status()),
            "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  ASSERT_TRUE(store.store->Delete("acme", "c").ok());
  EXPECT_TRUE(store.Upload("other", "b", 1).ok());
  // The quota is asked again where the name was deleted under the upload.
  auto begun = store.store->BeginUpload([] {
    UploadSpec spec = TestStore::Spec("acme", "a", 9);
    spec.condition.replace = true;
    return spec;
  }());
  ASSERT_TRUE(begun.ok());
  const std::string bytes = TinyAdapter(9).safetensors_bytes;
  ASSERT_TRUE((*begun)->Append(BytesOf(bytes)).ok());
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  ASSERT_TRUE(store.Upload("acme", "x", 1).ok());
  EXPECT_EQ(Outcome((*begun)->Commit().status()),
            "RESOURCE_EXHAUSTED ADAPTER_QUOTA");
  EXPECT_EQ(store.store->Stats().open_uploads, 0);
}

TEST_F(StoreQuotaTest, BytesCountAllKeptVersionsAndWhatIsStaged) {
  const uint64_t size = Size(1);
  TestStore store;
  store.options.max_versions = 2;
  store.options.per_tenant.max_bytes = 3 * size;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
  // Needs room beside both before one of them goes.
  ASSERT_TRUE(store.Upload("acme", "a", 3, true).ok());
  EXPECT_EQ(store.store->Stats().stored_bytes, 2 * size);
  // Shared bytes count once; garbage counts for nobody.
  ASSERT_TRUE(store.store->Rollback("acme", {"a", ""}).ok());
  ASSERT_TRUE(store.Upload("acme", "same", 2).ok());
  EXPECT_EQ(store.store->Stats().stored_bytes, 2 * size);
  EXPECT_EQ(store.store->Stats().garbage_bytes, size);
  store.store->CollectGarbage();
  EXPECT_EQ(store.store->Stats().garbage_bytes, 0u);
  {
    auto begun = store.store->BeginUpload(TestStore::Spec("acme", "b", 4));
    ASSERT_TRUE(begun.ok());
    EXPECT_EQ(store.store->Stats().staged_bytes, size);
    EXPECT_EQ(Outcome(store.Upload("acme", "c", 5).status()),
              "RESOURCE_EXHAUSTED STORE_QUOTA");
    UploadSpec check = TestStore::Spec("acme", "c", 5);
    check.validate_only = true;
    EXPECT_EQ(Outcome(store.store->BeginUpload(check).status()),
              "RESOURCE_EXHAUSTED STORE_QUOTA");
    EXPECT_TRUE(store.Upload("other", "c", 5).ok());
  }
  ASSERT_TRUE(store.Upload("acme", "b", 4).ok());
  EXPECT_EQ(Outcome(store.Upload("acme", "c", 5).status()),
            "RESOURCE_EXHAUSTED STORE_QUOTA");
  // The same again after a restart.
  store.store.reset();
  TestStore again;
  again.options = store.options;
  ASSERT_TRUE(again.Open(&fs_, root_).ok());
  EXPECT_EQ(again.store->Stats().stored_bytes, 4 * size);
  EXPECT_EQ(Outcome(again.Upload("acme", "c", 5).status()),
            "RESOURCE_EXHAUSTED STORE_QUOTA");
  ASSERT_TRUE(again.store->Delete("acme", "b").ok());
  EXPECT_TRUE(again.Upload("acme", "c", 5).ok());
}

TEST_F(StoreQuotaTest, UploadsAndStagedBytes) {
  const uint64_t size = Size(1);
  TestStore store;
  store.options.per_tenant.max_uploads = 2;
  store.options.total.max_staged_bytes = 3 * size;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  const auto begin = [&](const std::string& tenant) {
    return store.store->BeginUpload(TestStore::Spec(tenant, "n", 1));
  };
  auto one = begin("acme");
  auto two = begin("acme");
  EXPECT_EQ(Outcome(begin("acme").status()), "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  auto three = begin("b");
  EXPECT_EQ(Outcome(begin("c").status()), "RESOURCE_EXHAUSTED UPLOAD_LIMIT");
  EXPECT_EQ(Staged(), 3u);
  // The first error ends an upload, though its object is kept.
  EXPECT_FALSE((*one)->Append(BytesOf(std::string(size, 'x'))).ok());
  EXPECT_EQ((*one)->received(), 0u);
  EXPECT_EQ(Staged(), 2u);
  EXPECT_EQ(store.store->Stats().open_uploads, 2);
  EXPECT_TRUE(begin("acme").ok());
  EXPECT_FALSE((*one)->Commit().ok());
  one->reset();
  // So does a commit, whether or not it succeeds.
  EXPECT_EQ(Outcome((*two)->Commit().status()),
            "INVALID_ARGUMENT UPLOAD_TRUNCATED");
  EXPECT_EQ(store.store->Stats().open_uploads, 1);
  const std::string bytes = TinyAdapter(1).safetensors_bytes;
  ASSERT_TRUE((*three)->Append(BytesOf(bytes)).ok());
  EXPECT_TRUE((*three)->Commit().ok());
  EXPECT_FALSE((*three)->Commit().ok());
  EXPECT_EQ(store.store->Stats().open_uploads, 0);
  EXPECT_EQ(store.store->Stats().staged_bytes, 0u);
  EXPECT_EQ(Staged(), 0u);
}

// Whatever happens, the sums are those of what is there.
TEST_F(StoreQuotaTest, NothingLeaksWithThreads) {
  TestStore store;
  store.options.max_versions = 2;
  store.options.per_tenant = {.max_adapters = 3,
                              .max_bytes = 8 * Size(1),
                              .max_staged_bytes = 3 * Size(1),
                              .max_uploads = 2};
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&store, thread] {
      std::mt19937 random(thread);
      for (int i = 0; i < 25; ++i) {
        const std::string name = absl::StrCat("n", random() % 4);
        UploadSpec spec = TestStore::Spec("acme", name, random() % 5);
        spec.condition.replace = random() % 2 == 0;
        spec.validate_only = random() % 8 == 0;
        const std::string bytes = TinyAdapter(random() % 5).safetensors_bytes;
        auto upload = store.store->BeginUpload(spec);
        if (!upload.ok()) continue;
        (*upload)
            ->Append(BytesOf(bytes).subspan(0, random() % (bytes.size() + 1)))
            .IgnoreError();
        if (random() % 4 != 0) (*upload)->Commit().IgnoreError();
        upload->reset();
        store.Upload("acme", name, random() % 5, true).IgnoreError();
        if (random() % 3 == 0) store.store->Delete("acme", name).IgnoreError();
        store.store->Rollback("acme", {name, ""}).IgnoreError();
        store.store->CollectGarbage();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const StoreStats stats = store.store->Stats();
  EXPECT_EQ(stats.open_uploads, 0);
  EXPECT_EQ(stats.staged_bytes, 0u);
  EXPECT_FALSE(stats.read_only);
  EXPECT_EQ(Staged(), 0u);
  store.store->CollectGarbage();
  EXPECT_EQ(stats.stored_bytes, Blobs().size() * Size(1));
  EXPECT_LE(stats.adapters, 3);
  // All of it can be used, and all of it can be given back.
  for (const auto& [name, digest] : store.Served()) {
    EXPECT_NE(digest, "damaged") << name;
    EXPECT_TRUE(store.store->Delete("acme", name.substr(5)).ok()) << name;
  }
  store.store->CollectGarbage();
  EXPECT_EQ(store.store->Stats().stored_bytes, 0u);
  EXPECT_EQ(store.store->Stats().garbage_bytes, 0u);
  EXPECT_TRUE(Blobs().empty());
}

}  // namespace
}  // namespace descant
