// One adapter read out of a directory that a store may have open.
#include "adapters/stored_adapter.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "tests/adapters/store_fixture.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

class StoredAdapterTest : public StoreTest {
 protected:
  absl::StatusOr<std::shared_ptr<const Adapter>> Read(
      const std::string& text, const std::string& fingerprint = "sha256:tiny") {
    const auto id = ParseQualifiedAdapterId(text);
    EXPECT_TRUE(id.ok()) << id.status();
    BaseShape base = TinyBase();
    base.fingerprint = fingerprint;
    return ReadStoredAdapter(&fs_, root_, *id, base, AdapterLimits());
  }
  std::string OutcomeOf(const std::string& text) {
    return Outcome(Read(text).status());
  }

  PosixFs fs_;
};

TEST_F(StoredAdapterTest, IsTheVersionThatTheIdNames) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 2, /*replace=*/true).ok());
  ASSERT_TRUE(store.Upload("", "mine", 3).ok());
  const auto versions = store.registry.Versions("acme", "a");
  ASSERT_EQ(versions->size(), 2u);
  for (const auto& [text, entry] :
       {std::pair<std::string, RegistryEntry>{"acme/a", versions->at(0)},
        {"acme/a@" + versions->at(0).info.digest, versions->at(0)},
        {"acme/a@" + versions->at(1).info.digest, versions->at(1)},
        {"mine", *store.registry.Get("", "mine")}}) {
    // The store is open, and locked.
    const auto read = Read(text);
    ASSERT_TRUE(read.ok()) << text << ": " << read.status();
    EXPECT_EQ((*read)->digest, entry.info.digest) << text;
    const auto loaded = entry.adapter->source->Load(*entry.adapter);
    ASSERT_EQ((*read)->modules.size(), (*loaded)->modules.size());
    const AdapterMatrix& ours = (*read)->modules.back().b;
    const AdapterMatrix& theirs = (*loaded)->modules.back().b;
    EXPECT_EQ(std::memcmp(ours.data, theirs.data,
                          ours.rows * ours.columns * DtypeBytes(ours.dtype)),
              0);
  }
}

TEST_F(StoredAdapterTest, SaysWhyThereIsNone) {
  EXPECT_EQ(OutcomeOf("a"), "NOT_FOUND ");  // no store
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  const std::string kNotFound = "NOT_FOUND ADAPTER_NOT_FOUND";
  EXPECT_EQ(OutcomeOf("a"), kNotFound);
  EXPECT_EQ(OutcomeOf("other/a"), kNotFound);
  EXPECT_EQ(OutcomeOf("acme/b"), kNotFound);
  EXPECT_EQ(OutcomeOf("acme/a@sha256:" + std::string(64, '0')), kNotFound);
  EXPECT_EQ(Outcome(Read("acme/a", "sha256:another").status()),
            "FAILED_PRECONDITION ADAPTER_INCOMPATIBLE");
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  EXPECT_EQ(OutcomeOf("acme/a"), kNotFound);
}

TEST_F(StoredAdapterTest, DamageAndLossAreTold) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("", "a", 1).ok());
  const auto blob = Blobs().at(0);
  std::string bytes = Slurp(blob);
  bytes.back() ^= 1;
  Spit(blob, bytes);
  EXPECT_EQ(OutcomeOf("a"), "DATA_LOSS ADAPTER_DATA_LOSS");
  stdfs::remove(blob);
  EXPECT_EQ(OutcomeOf("a"), "UNAVAILABLE ADAPTER_UNREADABLE");
}

// No lock is taken and no file is made, whatever there is.
TEST_F(StoredAdapterTest, WritesNothing) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("", "a", 1).ok());
  }
  FaultFs refusing(&fs_);
  refusing.RefuseWrites(absl::FailedPreconditionError("EROFS"));
  EXPECT_TRUE(ReadStoredAdapter(&refusing, root_, {"a", ""}, TinyBase(),
                                AdapterLimits())
                  .ok());
}

}  // namespace
}  // namespace descant
