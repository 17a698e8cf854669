// Each call of the file system fails once, in each way: nothing crashes, what
// was acknowledged stays, errors are typed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <set>
#include <string>

#include "tests/adapters/store_fixture.h"
#include "tests/testing/crash_fs.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

// What an operation may answer when a call fails beneath it.
const std::set<std::string>& TypedErrors() {
  static const auto* errors = new std::set<std::string>{
      "RESOURCE_EXHAUSTED STORE_FULL", "FAILED_PRECONDITION STORE_READ_ONLY",
      "DATA_LOSS ADAPTER_DATA_LOSS", "UNAVAILABLE ADAPTER_UNREADABLE"};
  return *errors;
}

struct Operation {
  const char* name;
  std::function<absl::Status(TestStore*)> run;
};

absl::Status Download(TestStore* store) {
  auto files = store->store->OpenFiles(*store->registry.Get("acme", "a"));
  return files.ok() ? (*files)->Finish() : files.status();
}

absl::Status Load(TestStore* store) {
  auto adapter = store->registry.Lookup("acme", {"a", ""});
  if (!adapter.ok()) return adapter.status();
  return (*adapter)->source->Load(**adapter).status();
}

// Until the journal is written anew.
absl::Status Rotate(TestStore* store) {
  for (int i = 0; i < 12; ++i) {
    const auto back = store->store->Rollback("acme", {"a", ""});
    if (!back.ok()) return back.status();
  }
  return absl::OkStatus();
}

const Operation kOperations[] = {
    {"upload", [](TestStore* s) { return s->Upload("acme", "b", 3).status(); }},
    {"replace",
     [](TestStore* s) { return s->Upload("acme", "a", 4, true).status(); }},
    {"rollback",
     [](TestStore* s) {
       return s->store->Rollback("acme", {"a", ""}).status();
     }},
    {"delete", [](TestStore* s) { return s->store->Delete("acme", "a"); }},
    {"share",
     [](TestStore* s) {
       return s->store->Share("acme", "a", {{"third"}, false}).status();
     }},
    {"rotate", Rotate},
    {"collect",
     [](TestStore* s) {
       s->store->CollectGarbage();
       return absl::OkStatus();
     }},
    {"download", Download},
    {"load", Load}};

struct Fault {
  const char* name;
  absl::Status status;
  bool short_count;
};
const Fault kFaults[] = {{"EIO", absl::DataLossError("EIO"), false},
                         {"ENOSPC", absl::ResourceExhaustedError("x"), false},
                         {"EACCES", absl::FailedPreconditionError("x"), false},
                         {"short count", absl::OkStatus(), true}};

StoreOptions SmallOptions() {
  return {.max_versions = 2,
          .garbage_grace = Duration::zero(),
          .rotate_bytes = 1500};
}

// Versions of every name.
std::string TextOf(const TestStore& store) {
  std::string text;
  for (const char* name : {"a", "b", "gone"}) {
    absl::StrAppend(&text, name, ": ", store.History("acme", name), " for ",
                    store.SharedWith("acme", name), "; ");
  }
  return text;
}

// A store with a history, garbage, and a journal about to be rotated.
CrashFs::Snapshot Prepared() {
  CrashFs fs(CrashFs::Snapshot{{"/disk"}, {}});
  TestStore store;
  store.options = SmallOptions();
  EXPECT_TRUE(store.Open(&fs, "/disk/store").ok());
  EXPECT_TRUE(store.Upload("acme", "a", 1).ok());
  EXPECT_TRUE(store.Upload("acme", "a", 2, true).ok());
  EXPECT_TRUE(store.store->Share("acme", "a", {{"other"}, false}).ok());
  return fs.Current();
}

// False once the operation has fewer calls than that.
bool FailOnce(const CrashFs::Snapshot& disk, const Operation& operation,
              const Fault& fault, int64_t call) {
  const std::string where =
      absl::StrCat(operation.name, ", ", fault.name, " at call ", call);
  CrashFs memory(disk);
  FaultFs fs(&memory);
  std::string before;
  std::string acknowledged;
  std::string outcome;
  bool reached = false;
  {
    TestStore store;
    store.options = SmallOptions();
    EXPECT_TRUE(store.Open(&fs, "/disk/store").ok());
    EXPECT_TRUE(store.Upload("acme", "gone", 9).ok());
    EXPECT_TRUE(store.store->Delete("acme", "gone").ok());
    before = TextOf(store);
    const int64_t first = fs.calls();
    fs.FailCall(first + call, fault.status, fault.short_count);
    outcome = Outcome(operation.run(&store));
    reached = fs.calls() > first + call;
    fs.FailCall(-1, absl::OkStatus());
    EXPECT_TRUE(outcome == "OK" || TypedErrors().contains(outcome))
        << where << ": " << outcome;
    EXPECT_EQ(store.store->Stats().open_uploads, 0) << where;
    EXPECT_EQ(store.store->Stats().staged_bytes, 0u) << where;
    acknowledged = TextOf(store);
    // A failed operation changes nothing; a rotation is many operations.
    if (outcome != "OK" && std::string(operation.name) != "rotate") {
      EXPECT_EQ(acknowledged, before) << where;
    }
    // It goes on, or refuses in so many words.
    const auto next = store.Upload("acme", "next", 5);
    EXPECT_EQ(Outcome(next.status()), store.store->read_only()
                                          ? "FAILED_PRECONDITION "
                                            "STORE_READ_ONLY"
                                          : "OK")
        << where;
  }
  TestStore again;
  again.options = SmallOptions();
  const absl::Status opened = again.Open(&memory, "/disk/store");
  EXPECT_TRUE(opened.ok()) << where << ": " << opened;
  if (!opened.ok()) return reached;
  // What failed may have reached the disk: then it is whole.
  if (outcome == "OK") {
    EXPECT_EQ(TextOf(again), acknowledged) << where;
  }
  for (const AdapterInfo& info : again.store->AllVersions()) {
    EXPECT_TRUE(again.store->Verify(info).status.ok()) << where;
  }
  EXPECT_TRUE(memory.ListDirectory("/disk/store/staging")->empty()) << where;
  EXPECT_TRUE(again.Upload("acme", "later", 6).ok()) << where;
  return reached;
}

TEST(StoreFaultTest, EveryCallOfEveryOperationFailsInEveryWay) {
  const CrashFs::Snapshot disk = Prepared();
  for (const Operation& operation : kOperations) {
    int64_t calls = 0;
    for (const Fault& fault : kFaults) {
      calls = 0;
      while (FailOnce(disk, operation, fault, calls)) {
        ++calls;
        ASSERT_LT(calls, 500);
      }
    }
    std::printf("%s: %lld calls\n", operation.name,
                static_cast<long long>(calls));
    EXPECT_GE(calls, 1) << operation.name;
  }
}

TEST(StoreFaultTest, EveryCallOfOpenFailsInEveryWay) {
  const CrashFs::Snapshot disk = Prepared();
  std::string before;
  {
    CrashFs memory(disk);
    TestStore store;
    ASSERT_TRUE(store.Open(&memory, "/disk/store").ok());
    before = TextOf(store);
  }
  for (const Fault& fault : kFaults) {
    int64_t call = 0;
    for (bool reached = true; reached; ++call) {
      CrashFs memory(disk);
      {
        FaultFs fs(&memory);
        fs.FailCall(call, fault.status, fault.short_count);
        TestStore store;
        store.options = SmallOptions();
        const absl::Status opened = store.Open(&fs, "/disk/store");
        reached = fs.calls() > call;
        if (opened.ok()) {
          EXPECT_EQ(TextOf(store), before) << fault.name << " " << call;
        }
      }
      TestStore again;
      const absl::Status opened = again.Open(&memory, "/disk/store");
      ASSERT_TRUE(opened.ok()) << fault.name << " " << call << opened;
      EXPECT_EQ(TextOf(again), before) << fault.name << " " << call;
    }
    EXPECT_GT(call, 20);
  }
}

}  // namespace
}  // namespace descant
