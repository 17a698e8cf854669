// Versions of a name: history, expected versions, rollback, labels, and the
// journals of servers that kept one version.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "tests/adapters/store_fixture.h"

namespace descant {
namespace {

std::string DigestOf(uint64_t seed) {
  const AdapterFiles files = TinyAdapter(seed);
  return (*MakeAdapter("", "a", files.config_json,
                       BytesOf(files.safetensors_bytes), TinyBase(), {}))
      ->digest;
}

std::string Short(uint64_t seed) { return DigestOf(seed).substr(7, 6); }

TEST_F(StoreTest, ANameKeepsItsNewestVersions) {
  std::string history;
  {
    TestStore store;
    store.options.max_versions = 3;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    for (const uint64_t seed : {1, 2, 3, 4}) {
      ASSERT_TRUE(store.Upload("acme", "a", seed, true).ok());
    }
    history = store.History("acme", "a");
    EXPECT_EQ(history, "4 " + Short(4) + ", 3 " + Short(3) + ", 2 " + Short(2));
    store.store->CollectGarbage();
    EXPECT_EQ(Blobs().size(), 3u);
    // Any kept version can be pinned.
    const auto old = store.registry.Lookup("acme", {"a", DigestOf(2)});
    ASSERT_TRUE(old.ok()) << old.status();
    EXPECT_TRUE((*old)->source->Load(**old).ok());
    EXPECT_EQ(store.registry.Find("acme", {"a", DigestOf(3)})->info.version,
              3u);
    EXPECT_EQ(
        Outcome(store.registry.Lookup("acme", {"a", DigestOf(1)}).status()),
        "NOT_FOUND ADAPTER_NOT_FOUND");
    EXPECT_EQ(Outcome(store.registry.Find("acme", {"a", DigestOf(1)}).status()),
              "NOT_FOUND ADAPTER_NOT_FOUND");
    EXPECT_EQ(store.store->Stats().versions, 3);
  }
  {
    // Replay keeps what the server kept, whatever the limit is now.
    TestStore store;
    store.options.max_versions = 1;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_EQ(store.History("acme", "a"), history);
    EXPECT_EQ(store.store->recovery().ready, 3);
    ASSERT_TRUE(store.Upload("acme", "a", 5, true).ok());
    EXPECT_EQ(store.History("acme", "a"), "5 " + Short(5));
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.History("acme", "a"), "5 " + Short(5));
  EXPECT_EQ(Blobs().size(), 1u);
  // A name that comes back has no history and a higher version.
  ASSERT_TRUE(store.Upload("acme", "a", 1, true).ok());
  ASSERT_TRUE(store.store->Delete("acme", "a").ok());
  EXPECT_EQ(store.History("acme", "a"), "-");
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  EXPECT_EQ(store.History("acme", "a"), "8 " + Short(1));
}

TEST_F(StoreTest, ExpectedVersions) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  const auto upload = [&](uint64_t seed, uint64_t expected) {
    UploadSpec spec = TestStore::Spec("acme", "a", seed);
    spec.condition.expected_version = expected;
    return Outcome(
        store.Send(spec, TinyAdapter(seed).safetensors_bytes).status());
  };
  EXPECT_EQ(upload(1, 7), "ABORTED ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(upload(1, 0), "OK");
  EXPECT_EQ(upload(2, 0), "ABORTED ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(upload(2, 1), "OK");
  EXPECT_EQ(upload(3, 1), "ABORTED ADAPTER_VERSION_MISMATCH");
  UploadSpec stale = TestStore::Spec("acme", "a", 3);
  stale.condition.expected_version = 1;
  EXPECT_EQ(FieldOf(store.store->BeginUpload(stale).status()),
            "expected_version");
  EXPECT_EQ(Outcome(store.store->Delete("acme", "a", 1)),
            "ABORTED ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(Outcome(store.store->Rollback("acme", {"a", ""}, 1).status()),
            "ABORTED ADAPTER_VERSION_MISMATCH");
  EXPECT_EQ(store.store->Rollback("acme", {"a", ""}, 2)->info.version, 3u);
  EXPECT_TRUE(store.store->Delete("acme", "a", 3).ok());
  EXPECT_EQ(upload(1, 0), "OK");
}

// Of all who expect the same version, one wins; versions never repeat.
TEST_F(StoreTest, RacesForAVersionHaveOneWinner) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  uint64_t current = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<absl::StatusOr<PublishResult>> results(
        4, absl::UnknownError("not run"));
    std::vector<std::thread> threads;
    for (size_t i = 0; i < results.size(); ++i) {
      threads.emplace_back([&, i] {
        const uint64_t seed = static_cast<uint64_t>(round) * 10 + i;
        UploadSpec spec = TestStore::Spec("acme", "a", seed);
        spec.condition.expected_version = current;
        results[i] = store.Send(spec, TinyAdapter(seed).safetensors_bytes);
      });
    }
    for (std::thread& thread : threads) thread.join();
    int winners = 0;
    uint64_t next = 0;
    for (const auto& result : results) {
      if (result.ok()) {
        ++winners;
        next = result->info.version;
      } else {
        EXPECT_EQ(Outcome(result.status()), "ABORTED ADAPTER_VERSION_MISMATCH");
      }
    }
    EXPECT_EQ(winners, 1);
    EXPECT_GT(next, current);
    EXPECT_EQ(store.registry.Get("acme", "a")->info.version, next);
    current = next;
  }
  EXPECT_EQ(store.store->Stats().open_uploads, 0);
  EXPECT_EQ(store.store->Stats().staged_bytes, 0u);
  EXPECT_EQ(Staged(), 0u);
}

TEST_F(StoreTest, RollbackIsANewVersionOfOldContent) {
  std::string history;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    UploadSpec spec = TestStore::Spec("acme", "a", 1);
    spec.labels = {{"stage", "good"}};
    ASSERT_TRUE(store.Send(spec, TinyAdapter(1).safetensors_bytes).ok());
    EXPECT_EQ(Outcome(store.store->Rollback("acme", {"a", ""}).status()),
              "NOT_FOUND ADAPTER_NOT_FOUND");  // nothing before it
    ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 3, true).ok());
    const uint64_t blobs = Blobs().size();
    store.clock.Advance(std::chrono::seconds(100));
    const auto back = store.store->Rollback("acme", {"a", DigestOf(1)});
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->outcome, PublishOutcome::kReplaced);
    EXPECT_EQ(back->info.version, 4u);
    EXPECT_EQ(back->info.digest, DigestOf(1));
    EXPECT_EQ(back->info.labels, spec.labels);
    EXPECT_EQ(back->info.module_kinds, 0x5u);
    EXPECT_EQ(back->info.created_unix, store.clock.UnixSeconds());
    EXPECT_EQ(Blobs().size(), blobs);
    // Without a digest: to what was before.
    EXPECT_EQ(store.store->Rollback("acme", {"a", ""})->info.digest,
              DigestOf(3));
    const auto same = store.store->Rollback("acme", {"a", DigestOf(3)});
    EXPECT_EQ(same->outcome, PublishOutcome::kUnchanged);
    EXPECT_EQ(same->info.version, 5u);
    EXPECT_EQ(
        Outcome(store.store->Rollback("acme", {"a", DigestOf(9)}).status()),
        "NOT_FOUND ADAPTER_NOT_FOUND");
    EXPECT_EQ(store.store->Rollback("other", {"a", ""}).status(),
              store.store->Rollback("other", {"never", ""}).status());
    history = store.History("acme", "a");
    EXPECT_EQ(history, "5 " + Short(3) + ", 4 " + Short(1) + " stage=good, 3 " +
                           Short(3) + ", 2 " + Short(2));
    // Blobs are counted by version: those of 1 and 3 have two and one left.
    ASSERT_TRUE(store.Upload("acme", "a", 4, true).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 5, true).ok());
    store.store->CollectGarbage();
    EXPECT_EQ(Blobs().size(), 4u);
    history = store.History("acme", "a");
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.History("acme", "a"), history);
}

TEST_F(StoreTest, LabelsArePartOfAVersion) {
  AdapterLabels labels = {{"team", "a \"b\" \\ \xc3\xa9"}, {"x.y", ""}};
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    const auto send = [&](const AdapterLabels& with, bool replace) {
      UploadSpec spec = TestStore::Spec("acme", "a", 1);
      spec.labels = with;
      spec.condition.replace = replace;
      return store.Send(spec, TinyAdapter(1).safetensors_bytes);
    };
    EXPECT_EQ(send({{"k", "v"}}, false)->outcome, PublishOutcome::kCreated);
    EXPECT_EQ(send({{"k", "v"}}, false)->outcome, PublishOutcome::kUnchanged);
    EXPECT_EQ(Outcome(send(labels, false).status()),
              "ALREADY_EXISTS ADAPTER_EXISTS");
    EXPECT_EQ(send(labels, true)->outcome, PublishOutcome::kReplaced);
    EXPECT_EQ(store.registry.Versions("acme", "a")->size(), 2u);
    EXPECT_EQ(Blobs().size(), 1u);
    std::string control = "a";
    control += '\x1f';
    AdapterLabels many;
    for (size_t i = 0; i <= kMaxLabels; ++i) many[absl::StrCat("k", i)] = "";
    for (const AdapterLabels& bad : std::vector<AdapterLabels>{
             many,
             {{"", "v"}},
             {{"a..b", "v"}},
             {{"a b", "v"}},
             {{std::string(64, 'k'), "v"}},
             {{"k", std::string(257, 'v')}},
             {{"k", control}},
             {{"k", "\x7f"}},
             {{"k", "\xc2\x85"}},          // C1
             {{"k", "\xff"}},              // no UTF-8
             {{"k", "\xc0\xaf"}},          // overlong
             {{"k", "\xed\xa0\x80"}},      // a surrogate
             {{"k", "\xf4\x90\x80\x80"}},  // above U+10FFFF
             {{"k", "\xe2\x82"}}}) {       // cut
      EXPECT_EQ(Outcome(send(bad, true).status()),
                "INVALID_ARGUMENT LABEL_INVALID");
    }
    AdapterLabels most;
    for (size_t i = 0; i < kMaxLabels; ++i) {
      most[absl::StrCat(std::string(61, 'k'), 10 + i)] = std::string(256, '"');
    }
    EXPECT_TRUE(send(most, true).ok());
    EXPECT_TRUE(send(labels, true).ok());
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.registry.Get("acme", "a")->info.labels, labels);
  EXPECT_EQ(store.registry.Versions("acme", "a")->size(), 4u);
}

// A store as a server of format 1 left it, byte by byte.
TEST_F(StoreTest, AStoreOfFormat1OpensUnchanged) {
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
    ASSERT_TRUE(store.Upload("acme", "b", 3).ok());
  }
  const auto record = [](const std::string& payload) {
    std::string bytes;
    AppendLittleEndian(static_cast<uint32_t>(payload.size()), &bytes);
    AppendLittleEndian(Crc32c(payload), &bytes);
    return bytes + payload;
  };
  const auto put = [&](const char* name, int version, uint64_t seed) {
    return record(absl::StrCat(
        R"({"op":"put","version":)", version, R"(,"tenant":"acme","name":")",
        name, R"(","digest":")", DigestOf(seed), R"(","file_bytes":)",
        TinyAdapter(seed).safetensors_bytes.size(),
        R"(,"max_rank":2,"num_modules":4,"module_kinds":5,"parameters":112,)",
        R"("base_fingerprint":"sha256:tiny","base_model_name":"some/model",)",
        R"("created_unix":1700000000.250})"));
  };
  std::string journal =
      "DSCJRNL1" + put("a", 1, 1) + put("b", 2, 3) + put("a", 3, 2) +
      record(R"({"op":"delete","version":4,"tenant":"acme","name":"b"})");
  Spit(root_ + "/journal", journal);
  Spit(root_ + "/FORMAT", "1\n");
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_EQ(Slurp(root_ + "/journal"), journal);
    EXPECT_EQ(Slurp(root_ + "/FORMAT"), "3\n");
    // A put was the whole history of its name.
    EXPECT_EQ(store.History("acme", "a"), "3 " + Short(2));
    EXPECT_EQ(store.History("acme", "b"), "-");
    EXPECT_EQ(Blobs().size(), 1u);
    const AdapterInfo info = store.registry.Get("acme", "a")->info;
    EXPECT_EQ(info.created_unix, 1700000000.25);
    EXPECT_EQ(info.base_model_name, "some/model");
    EXPECT_TRUE(info.labels.empty());
    EXPECT_TRUE(store.store->Verify(info).status.ok());
    ASSERT_TRUE(store.Upload("acme", "a", 4, true).ok());
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.History("acme", "a"), "5 " + Short(4) + ", 3 " + Short(2));
}

// The digest is of the meaning: other bytes of the same digest must not take
// the place of those that other versions were stored with.
TEST_F(StoreTest, TheSameDigestInOtherBytes) {
  AdapterFiles files = TinyAdapter(1);
  AdapterFiles spaced = files;
  // The header may end in spaces, which are no part of the digest.
  const auto length =
      LoadLittleEndian<uint64_t>(files.safetensors_bytes.data());
  std::string head;
  AppendLittleEndian<uint64_t>(length + 8, &head);
  spaced.safetensors_bytes = head + files.safetensors_bytes.substr(8, length) +
                             std::string(8, ' ') +
                             files.safetensors_bytes.substr(8 + length);
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    const auto other = store.Send(TestStore::SpecOf("acme", "b", spaced),
                                  spaced.safetensors_bytes);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(other->info.digest, DigestOf(1));
    EXPECT_EQ(other->info.file_bytes, files.safetensors_bytes.size());
    EXPECT_EQ(Staged(), 0u);
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_EQ(store.store->recovery().ready, 2);
}

TEST_F(StoreTest, ValidateOnlyKeepsNothing) {
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
  const std::string journal = Slurp(root_ + "/journal");
  const auto check = [&](const std::string& name, uint64_t seed, bool replace) {
    UploadSpec spec = TestStore::Spec("acme", name, seed);
    spec.validate_only = true;
    spec.condition.replace = replace;
    auto upload = store.store->BeginUpload(spec);
    EXPECT_EQ(Staged(), 0u);
    EXPECT_EQ(store.store->Stats().staged_bytes, 0u);
    EXPECT_EQ(store.store->Stats().open_uploads, 1);
    const std::string bytes = TinyAdapter(seed).safetensors_bytes;
    EXPECT_TRUE((*upload)->Append(BytesOf(bytes)).ok());
    EXPECT_EQ((*upload)->received(), bytes.size());
    return (*upload)->Commit();
  };
  EXPECT_EQ(check("b", 2, false)->outcome, PublishOutcome::kCreated);
  EXPECT_EQ(check("b", 2, false)->info.digest, DigestOf(2));
  EXPECT_EQ(check("a", 2, true)->outcome, PublishOutcome::kReplaced);
  EXPECT_EQ(check("a", 1, true)->outcome, PublishOutcome::kUnchanged);
  EXPECT_EQ(check("a", 1, true)->info.version, 1u);
  EXPECT_EQ(Outcome(check("a", 2, false).status()),
            "ALREADY_EXISTS ADAPTER_EXISTS");
  EXPECT_EQ(Slurp(root_ + "/journal"), journal);
  EXPECT_EQ(Blobs().size(), 1u);
  EXPECT_EQ(store.registry.TotalUsage().adapters, 1);
  EXPECT_EQ(store.store->Stats().open_uploads, 0);
}

}  // namespace
}  // namespace descant
