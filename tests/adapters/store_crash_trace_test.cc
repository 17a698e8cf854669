// Every prefix of a long random trace of uploads, replacements, rollbacks,
// sharings, deletions, garbage collections, journal rotations and restarts, cut
// by a crash: what was acknowledged is there, with its history, and the
// operation under way is wholly there or wholly not.
//
// A prefix is a change of the file system. Of each, the crash states are: each
// subset of the changes of names that no directory sync has made durable (of
// more than three: none, all, all but one, one alone), times six ways to lose
// unsynced data, torn at 512 bytes among them. States that were seen for the
// same operation are not opened again. DESCANT_CRASH_OPERATIONS sets the
// trace's length (200; 10,000 for a long run), DESCANT_CRASH_SEED its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/strings/numbers.h"
#include "tests/adapters/store_fixture.h"
#include "tests/testing/crash_fs.h"

namespace descant {
namespace {

constexpr size_t kMaxVersions = 3;
constexpr int kSeeds = 6;
const char* const kTenants[] = {"acme", "other"};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// What the store promises, said once more.
struct Model {
  struct Version {
    uint64_t number;
    std::string digest;
    std::string label;
  };
  using History = std::vector<Version>;  // newest first
  std::map<std::pair<std::string, std::string>, History> names;
  std::map<std::pair<std::string, std::string>, std::string> shared;
  uint64_t next = 1;

  void Put(const std::pair<std::string, std::string>& name,
           const std::string& digest, const std::string& label) {
    History& history = names[name];
    if (!history.empty() && history[0].digest == digest &&
        history[0].label == label) {
      return;
    }
    history.insert(history.begin(), {next++, digest, label});
    if (history.size() > kMaxVersions) history.pop_back();
  }

  std::string Text() const {
    std::string text;
    for (const auto& [name, history] : names) {
      for (const Version& version : history) {
        absl::StrAppend(&text, name.first, "/", name.second, " ",
                        version.number, " ", version.digest, " ", version.label,
                        "\n");
      }
    }
    for (const auto& [name, tenants] : shared) {
      absl::StrAppend(&text, name.first, "/", name.second, " for ", tenants,
                      "\n");
    }
    return text;
  }
};

// The same of a store; each version's bytes are read and checked.
std::string TextOf(const TestStore& store) {
  std::string text;
  for (const AdapterInfo& info : store.store->AllVersions()) {
    const auto label = info.labels.find("label");
    absl::StrAppend(&text, info.tenant, "/", info.name, " ", info.version, " ",
                    info.digest, " ",
                    label == info.labels.end() ? "" : label->second, "\n");
    const VerifyResult read = store.store->Verify(info);
    if (!read.status.ok()) absl::StrAppend(&text, "damaged\n");
  }
  for (const SharedName& shared : store.registry.AllShared()) {
    absl::StrAppend(&text, shared.owner, "/", shared.name, " for ",
                    store.SharedWith(shared.owner, shared.name), "\n");
  }
  return text;
}

class CrashTraceTest : public testing::Test {
 protected:
  CrashTraceTest() : fs_(CrashFs::Snapshot{{"/disk"}, {}}) {
    for (int seed = 0; seed < kSeeds; ++seed) {
      files_.push_back(SmallAdapter(static_cast<uint64_t>(seed)));
      digests_.push_back((*MakeAdapter("", "a", files_.back().config_json,
                                       BytesOf(files_.back().safetensors_bytes),
                                       TinyBase(), {}))
                             ->digest);
    }
    options_.max_versions = kMaxVersions;
    options_.rotate_bytes = 2500;
    options_.garbage_grace = std::chrono::seconds(2);
  }

  absl::Status Open(TestStore* store, CrashFs* fs) const {
    store->options = options_;
    return store->Open(fs, "/disk/store");
  }

  // Opens every state a crash now may leave.
  void CrashNow() {
    for (const CrashFs::Snapshot& disk : fs_.CrashStates(/*few=*/true)) {
      const size_t hash = absl::Hash<std::pair<size_t, CrashFs::Snapshot>>()(
          {acknowledged_, disk});
      if (seen_.insert(hash).second) Recover(disk);
    }
  }

  void Recover(const CrashFs::Snapshot& disk) {
    CrashFs after(disk);
    TestStore store;
    const absl::Status opened = Open(&store, &after);
    ASSERT_TRUE(opened.ok()) << acknowledged_ << " " << opened;
    ASSERT_FALSE(store.store->read_only());
    const std::string text = TextOf(store);
    if (text != before_.Text() && text != after_.Text()) {
      ++violations_;
      ADD_FAILURE() << "after " << acknowledged_ << " operations:\n"
                    << text << "instead of\n"
                    << before_.Text() << "or\n"
                    << after_.Text();
    }
    // Now and then: it works on, and no version is given twice.
    if (seen_.size() % 16 != 0) return;
    const auto later = store.Send(TestStore::SpecOf("acme", "later", files_[0]),
                                  files_[0].safetensors_bytes);
    ASSERT_TRUE(later.ok()) << later.status();
    EXPECT_GE(later->info.version, before_.next);
  }

  std::pair<std::string, std::string> RandomName() {
    return {kTenants[random_() % 2], absl::StrCat("n", random_() % 3)};
  }

  // One operation on the store and on after_.
  void Step(TestStore* store) {
    const auto name = RandomName();
    const auto& [tenant, adapter] = name;
    const uint64_t kind = random_() % 100;
    if (kind < 50) {
      Upload(store, name, kind);
    } else if (kind < 60) {
      Rollback(store, name);
    } else if (kind < 68) {
      Share(store, name);
    } else if (kind < 78) {
      if (after_.names.erase(name) > 0) {
        after_.shared.erase(name);
        ++after_.next;
        EXPECT_TRUE(store->store->Delete(tenant, adapter).ok());
      }
    } else if (kind < 95) {
      store->clock.Advance(std::chrono::seconds(1));
      store->store->CollectGarbage();
    } else {
      store->store.reset();
      store->registry.~AdapterRegistry();
      new (&store->registry) AdapterRegistry;
      ASSERT_TRUE(Open(store, &fs_).ok());
    }
  }

  void Upload(TestStore* store, const std::pair<std::string, std::string>& name,
              uint64_t kind) {
    const size_t seed = random_() % kSeeds;
    UploadSpec spec = TestStore::SpecOf(name.first, name.second, files_[seed]);
    spec.condition.replace = true;
    std::string label;
    if (kind < 6) {
      label = "blue";
      spec.labels["label"] = label;
    }
    spec.validate_only = kind >= 46 && kind < 48;
    if (kind >= 48) {  // given up half way
      auto upload = store->store->BeginUpload(spec);
      ASSERT_TRUE(upload.ok());
      const std::string half = files_[seed].safetensors_bytes.substr(0, 200);
      EXPECT_TRUE((*upload)->Append(BytesOf(half)).ok());
      return;
    }
    if (!spec.validate_only) after_.Put(name, digests_[seed], label);
    const auto sent = store->Send(spec, files_[seed].safetensors_bytes);
    EXPECT_TRUE(sent.ok()) << sent.status();
  }

  void Rollback(TestStore* store,
                const std::pair<std::string, std::string>& name) {
    const auto it = after_.names.find(name);
    if (it == after_.names.end()) return;
    const Model::History history = it->second;
    const std::string digest = history[random_() % history.size()].digest;
    const auto target =
        std::find_if(history.begin(), history.end(),
                     [&](const auto& v) { return v.digest == digest; });
    after_.Put(name, digest, target->label);
    const auto back = store->store->Rollback(name.first, {name.second, digest});
    EXPECT_TRUE(back.ok()) << back.status();
  }

  void Share(TestStore* store,
             const std::pair<std::string, std::string>& name) {
    if (!after_.names.contains(name)) return;
    AdapterSharing sharing;
    sharing.all_tenants = random_() % 4 == 0;
    for (const char* tenant : {"one", "three", "two"}) {
      if (!sharing.all_tenants && random_() % 2 == 0) {
        sharing.tenants.push_back(tenant);
      }
    }
    after_.shared.erase(name);
    if (!sharing.nobody()) {
      after_.shared[name] =
          sharing.all_tenants ? "*" : absl::StrJoin(sharing.tenants, " ");
    }
    const auto shared = store->store->Share(name.first, name.second, sharing);
    EXPECT_TRUE(shared.ok()) << shared.status();
  }

  CrashFs fs_;
  StoreOptions options_;
  std::vector<AdapterFiles> files_;
  std::vector<std::string> digests_;
  std::mt19937_64 random_;
  Model before_;  // acknowledged
  Model after_;   // with the operation under way
  size_t acknowledged_ = 0;
  absl::flat_hash_set<size_t> seen_;
  int violations_ = 0;
};

TEST_F(CrashTraceTest, EveryPrefixOfARandomTrace) {
  const uint64_t operations = FromEnvironment("DESCANT_CRASH_OPERATIONS", 200);
  const uint64_t seed = FromEnvironment("DESCANT_CRASH_SEED", 20261126);
  random_.seed(seed);
  TestStore store;
  fs_.set_observer([this] { CrashNow(); });
  ASSERT_TRUE(Open(&store, &fs_).ok());
  uint64_t rotations = 0;
  uint64_t journal_bytes = 0;
  while (acknowledged_ < operations) {
    Step(&store);
    if (HasFatalFailure() || violations_ > 3) break;
    before_ = after_;
    ++acknowledged_;
    ASSERT_EQ(TextOf(store), before_.Text()) << acknowledged_;
    const uint64_t bytes = store.store->Stats().journal_bytes;
    if (bytes < journal_bytes) ++rotations;
    journal_bytes = bytes;
  }
  fs_.set_observer(nullptr);
  std::printf(
      "seed %llu: %zu operations, %llu rotations, %lld prefixes, %zu crash "
      "states, %d violations\n",
      static_cast<unsigned long long>(seed), acknowledged_,
      static_cast<unsigned long long>(rotations),
      static_cast<long long>(fs_.operations()), seen_.size(), violations_);
  EXPECT_EQ(violations_, 0);
  if (operations >= 200) {
    EXPECT_GT(rotations, operations / 50);
  }
  EXPECT_GT(seen_.size(), 10 * operations);
}

}  // namespace
}  // namespace descant
