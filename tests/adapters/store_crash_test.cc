// Every crash state of uploads, replacements and deletions: what was
// acknowledged is there, what was not is wholly there or wholly not.
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/adapters/store_fixture.h"
#include "tests/testing/crash_fs.h"

namespace descant {
namespace {

using Model = std::map<std::string, std::string>;

CrashFs::Snapshot EmptyDisk() { return {{"/disk"}, {}}; }

// What is served, and with whom it is shared.
Model ModelOf(const TestStore& store) {
  Model model = store.Served();
  for (const SharedName& shared : store.registry.AllShared()) {
    const std::string name = shared.owner + "/" + shared.name;
    EXPECT_TRUE(model.contains(name)) << name;
    model[name + " for"] = store.SharedWith(shared.owner, shared.name);
  }
  return model;
}

// One step of the trace and what it does to the model.
struct Step {
  std::function<absl::Status(TestStore*)> run;
  std::function<void(Model*)> model;
};

Step Upload(const std::string& tenant, const std::string& name, uint64_t seed) {
  const AdapterFiles files = TinyAdapter(seed);
  const auto adapter =
      MakeAdapter(tenant, name, files.config_json,
                  BytesOf(files.safetensors_bytes), TinyBase(), {});
  const std::string digest = (*adapter)->digest;
  return {[=](TestStore* store) {
            return store->Upload(tenant, name, seed, /*replace=*/true).status();
          },
          [=](Model* model) { (*model)[tenant + "/" + name] = digest; }};
}

Step Delete(const std::string& tenant, const std::string& name) {
  return {[=](TestStore* store) { return store->store->Delete(tenant, name); },
          [=](Model* model) {
            model->erase(tenant + "/" + name);
            model->erase(tenant + "/" + name + " for");
          }};
}

Step Share(const std::string& tenant, const std::string& name,
           const AdapterSharing& sharing) {
  return {[=](TestStore* store) {
            return store->store->Share(tenant, name, sharing).status();
          },
          [=](Model* model) {
            const std::string key = tenant + "/" + name + " for";
            model->erase(key);
            if (sharing.nobody()) return;
            (*model)[key] =
                sharing.all_tenants ? "*" : absl::StrJoin(sharing.tenants, " ");
          }};
}

std::vector<Step> Trace() {
  return {Upload("acme", "a", 1),
          Upload("acme", "b", 2),
          Share("acme", "b", {{"one", "other"}, false}),
          Upload("other", "a", 1),
          Share("other", "a", {{}, true}),
          Upload("acme", "a", 3),
          Share("acme", "a", {{"two"}, false}),
          Delete("acme", "b"),
          Upload("acme", "b", 2),
          Upload("acme", "c", 2),
          Share("acme", "a", {}),
          Delete("acme", "b"),
          Delete("other", "a"),
          Upload("acme", "a", 1),
          Upload("", "no-tenant", 4)};
}

TEST(StoreCrashTest, EveryCrashStateOfTheTrace) {
  CrashFs fs(EmptyDisk());
  const std::vector<Step> trace = Trace();
  std::vector<Model> models(1);
  std::set<std::pair<CrashFs::Snapshot, size_t>> in_flight;
  size_t acknowledged = 0;
  fs.set_observer([&] {
    for (const auto& disk : fs.CrashStates()) {
      in_flight.insert({disk, acknowledged});
    }
  });
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
    for (const Step& step : trace) {
      Model next = models.back();
      step.model(&next);
      models.push_back(next);
      ASSERT_TRUE(step.run(&store).ok()) << acknowledged;
      ++acknowledged;
      ASSERT_EQ(ModelOf(store), next);
    }
  }
  fs.set_observer(nullptr);
  std::printf("%ld operations, %zu crash states\n",
              static_cast<long>(fs.operations()), in_flight.size());
  EXPECT_GT(in_flight.size(), 300u);
  for (const auto& [disk, before] : in_flight) {
    CrashFs after(disk);
    TestStore store;
    const absl::Status opened = store.Open(&after, "/disk/store");
    ASSERT_TRUE(opened.ok()) << before << " " << opened;
    const Model served = ModelOf(store);
    const size_t next = std::min(before + 1, trace.size());
    EXPECT_TRUE(served == models[before] || served == models[next])
        << "after " << before << " steps";
    // And it works on.
    EXPECT_TRUE(store.Upload("acme", "later", 9).ok());
  }
}

// A second crash, during the recovery from a first.
TEST(StoreCrashTest, RecoveryIsRestartable) {
  CrashFs fs(EmptyDisk());
  std::set<CrashFs::Snapshot> first;
  {
    TestStore store;
    ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    fs.set_observer([&] {
      for (const auto& disk : fs.CrashStates()) first.insert(disk);
    });
    ASSERT_TRUE(store.Upload("acme", "b", 2).ok());
    fs.set_observer(nullptr);
  }
  size_t states = 0;
  for (const auto& disk : first) {
    CrashFs again(disk);
    std::set<CrashFs::Snapshot> second;
    again.set_observer([&] {
      for (const auto& state : again.CrashStates()) second.insert(state);
    });
    Model served;
    {
      TestStore store;
      ASSERT_TRUE(store.Open(&again, "/disk/store").ok());
      served = store.Served();
    }
    for (const auto& state : second) {
      ++states;
      CrashFs last(state);
      TestStore store;
      ASSERT_TRUE(store.Open(&last, "/disk/store").ok());
      const Model now = store.Served();
      EXPECT_TRUE(now.contains("acme/a"));
      // Served once, served for ever.
      for (const auto& [name, digest] : served) {
        EXPECT_TRUE(now.contains(name) && now.at(name) == digest) << name;
      }
    }
  }
  std::printf("%zu states of %zu recoveries\n", states, first.size());
}

// Each operation of an upload fails once, in each way.
TEST(StoreCrashTest, EveryOperationMayFail) {
  const absl::Status failures[] = {absl::ResourceExhaustedError("ENOSPC"),
                                   absl::DataLossError("EIO")};
  for (const absl::Status& failure : failures) {
    for (int64_t operation = 0;; ++operation) {
      CrashFs fs(EmptyDisk());
      Model model;
      bool failed = false;
      {
        TestStore store;
        ASSERT_TRUE(store.Open(&fs, "/disk/store").ok());
        ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
        model = store.Served();
        fs.FailOperation(fs.operations() + operation, failure);
        const auto result = store.Upload("acme", "b", 2);
        failed = !result.ok();
        fs.FailOperation(-1, failure);
        if (failed) {
          const std::string outcome = Outcome(result.status());
          EXPECT_TRUE(outcome == "RESOURCE_EXHAUSTED STORE_FULL" ||
                      outcome == "FAILED_PRECONDITION STORE_READ_ONLY")
              << outcome;
          EXPECT_EQ(store.Served(), model);  // serving goes on
          if (store.store->read_only()) {
            EXPECT_EQ(Outcome(store.Upload("acme", "c", 3).status()),
                      "FAILED_PRECONDITION STORE_READ_ONLY");
          } else {
            EXPECT_TRUE(store.Upload("acme", "b", 2).ok());
          }
        }
        model = store.Served();
      }
      TestStore store;
      const absl::Status opened = store.Open(&fs, "/disk/store");
      ASSERT_TRUE(opened.ok()) << operation << " " << opened;
      for (const auto& [name, digest] : model) {
        EXPECT_EQ(store.Served()[name], digest) << operation;
      }
      // Nothing of a failed upload stays in staging.
      EXPECT_TRUE(fs.ListDirectory("/disk/store/staging")->empty());
      if (!failed) {
        EXPECT_GT(operation, 5);
        break;
      }
    }
  }
}

}  // namespace
}  // namespace descant
