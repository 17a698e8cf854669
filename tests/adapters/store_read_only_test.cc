// Row 98: stores that cannot be written, and locks.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/adapters/store_fixture.h"
#include "tests/testing/fault_fs.h"

namespace descant {
namespace {

void ExpectRefusesChanges(TestStore* store) {
  const std::string kReadOnly = "FAILED_PRECONDITION STORE_READ_ONLY";
  EXPECT_TRUE(store->store->read_only());
  EXPECT_TRUE(store->store->Stats().read_only);
  EXPECT_EQ(Outcome(store->Upload("acme", "new", 9).status()), kReadOnly);
  EXPECT_EQ(Outcome(store->Upload("acme", "a", 1).status()), kReadOnly);
  EXPECT_EQ(Outcome(store->store->Delete("acme", "a")), kReadOnly);
  EXPECT_EQ(Outcome(store->store->Rollback("acme", {"a", ""}).status()),
            kReadOnly);
  UploadSpec check = TestStore::Spec("acme", "new", 9);
  check.validate_only = true;
  EXPECT_EQ(Outcome(store->store->BeginUpload(check).status()), kReadOnly);
  store->store->CollectGarbage();
  EXPECT_EQ(Outcome(store->store->Delete("acme", "never")),
            "NOT_FOUND ADAPTER_NOT_FOUND");
}

class ReadOnlyStoreTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    TestStore store;
    ASSERT_TRUE(store.Open(&fs_, root_).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 1).ok());
    ASSERT_TRUE(store.Upload("acme", "a", 2, true).ok());
    history_ = store.History("acme", "a");
    served_ = store.Served();
    // What a crash may leave.
    Spit(root_ + "/journal", Slurp(root_ + "/journal") + "torn");
    Spit(root_ + "/staging/3", "left over");
  }

  std::string history_;
  std::map<std::string, std::string> served_;
};

TEST_F(ReadOnlyStoreTest, AnyRefusalToWriteMeansReadOnly) {
  for (const absl::Status& refusal : {absl::FailedPreconditionError("EROFS"),
                                      absl::FailedPreconditionError("EACCES"),
                                      absl::ResourceExhaustedError("ENOSPC")}) {
    FaultFs refusing(&fs_);
    refusing.RefuseWrites(refusal);
    TestStore store;
    const absl::Status opened = store.Open(&refusing, root_);
    ASSERT_TRUE(opened.ok()) << opened;
    EXPECT_EQ(store.Served(), served_);
    EXPECT_EQ(store.History("acme", "a"), history_);
    EXPECT_EQ(store.store->recovery().messages.size(), 1u);
    for (const AdapterInfo& info : store.store->AllVersions()) {
      EXPECT_TRUE(store.store->Verify(info).status.ok());
    }
    auto files = store.store->OpenFiles(*store.registry.Get("acme", "a"));
    ASSERT_TRUE(files.ok());
    EXPECT_TRUE((*files)->Finish().ok());
    ExpectRefusesChanges(&store);
    // Nothing was touched.
    EXPECT_EQ(Slurp(root_ + "/staging/3"), "left over");
    EXPECT_EQ(
        Slurp(root_ + "/journal").substr(Slurp(root_ + "/journal").size() - 4),
        "torn");
  }
  TestStore store;
  ASSERT_TRUE(store.Open(&fs_, root_).ok());
  EXPECT_FALSE(store.store->read_only());
  EXPECT_TRUE(store.Upload("acme", "new", 3).ok());
}

// The disk fills up while the store opens: at any of its writes.
TEST_F(ReadOnlyStoreTest, FullAtAnyPointOfTheStart) {
  for (int64_t call = 0;; ++call) {
    FaultFs failing(&fs_);
    failing.FailCall(call, absl::ResourceExhaustedError("ENOSPC"));
    TestStore store;
    const absl::Status opened = store.Open(&failing, root_);
    if (opened.ok()) {
      EXPECT_EQ(store.History("acme", "a"), history_) << call;
    }
    if (failing.calls() <= call) break;
  }
}

TEST_F(ReadOnlyStoreTest, FoldersThatAreNoStoreAreErrors) {
  FaultFs refusing(&fs_);
  refusing.RefuseWrites(absl::FailedPreconditionError("EROFS"));
  stdfs::create_directory(parent_ + "/empty");
  TestStore empty;
  EXPECT_EQ(Outcome(empty.Open(&refusing, parent_ + "/empty")),
            "FAILED_PRECONDITION STORE_READ_ONLY");
  TestStore missing;
  EXPECT_EQ(Outcome(missing.Open(&refusing, parent_ + "/missing")),
            "FAILED_PRECONDITION STORE_READ_ONLY");
  for (const char* file : {"/FORMAT", "/journal"}) {
    const std::string content = Slurp(root_ + file);
    stdfs::remove(root_ + file);
    TestStore store;
    EXPECT_EQ(Outcome(store.Open(&refusing, root_)),
              "FAILED_PRECONDITION STORE_READ_ONLY");
    Spit(root_ + file, content);
  }
  Spit(root_ + "/FORMAT", "4\n");
  TestStore newer;
  EXPECT_EQ(Outcome(newer.Open(&refusing, root_)),
            "FAILED_PRECONDITION STORE_FORMAT_NEWER");
}

TEST_F(ReadOnlyStoreTest, LocksKeepWritersOut) {
  FaultFs refusing(&fs_);
  refusing.RefuseWrites(absl::FailedPreconditionError("EROFS"));
  {
    TestStore writer;
    ASSERT_TRUE(writer.Open(&fs_, root_).ok());
    TestStore reader;
    EXPECT_EQ(Outcome(reader.Open(&refusing, root_)),
              "UNAVAILABLE STORE_LOCKED");
  }
  {
    TestStore reader;
    ASSERT_TRUE(reader.Open(&refusing, root_).ok());
    TestStore second_reader;
    EXPECT_TRUE(second_reader.Open(&refusing, root_).ok());
    TestStore writer;
    EXPECT_EQ(Outcome(writer.Open(&fs_, root_)), "UNAVAILABLE STORE_LOCKED");
  }
  // Where no lock can be taken, none is.
  stdfs::remove(root_ + "/LOCK");
  TestStore reader;
  EXPECT_TRUE(reader.Open(&refusing, root_).ok());
}

TEST_F(ReadOnlyStoreTest, WithoutPermissionForReal) {
  // Root needs no permission: be nobody meanwhile.
  constexpr uid_t kNobody = 65534;
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::chown(parent_.c_str(), kNobody, kNobody), 0);
    ASSERT_EQ(::chown(root_.c_str(), kNobody, kNobody), 0);
    for (const auto& entry : stdfs::recursive_directory_iterator(root_)) {
      ASSERT_EQ(::chown(entry.path().c_str(), kNobody, kNobody), 0);
    }
    ASSERT_EQ(::seteuid(kNobody), 0);
  }
  const auto forbid = [this](bool forbidden) {
    for (const char* path : {"", "/journal", "/FORMAT", "/LOCK", "/staging"}) {
      stdfs::permissions(
          root_ + path, stdfs::perms::owner_write,
          forbidden ? stdfs::perm_options::remove : stdfs::perm_options::add);
    }
  };
  forbid(true);
  {
    TestStore store;
    EXPECT_TRUE(store.Open(&fs_, root_).ok());
    EXPECT_EQ(store.Served(), served_);
    ExpectRefusesChanges(&store);
  }
  forbid(false);
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
}

// A full disk while it runs refuses what needs room, and nothing else; a
// journal that could not take a record takes the next one.
TEST_F(ReadOnlyStoreTest, ADiskThatFillsUpIsNoEnd) {
  FaultFs full(&fs_);
  TestStore store;
  ASSERT_TRUE(store.Open(&full, root_).ok());
  full.RefuseWrites(absl::ResourceExhaustedError("ENOSPC"));
  EXPECT_EQ(Outcome(store.Upload("acme", "new", 3).status()),
            "RESOURCE_EXHAUSTED STORE_FULL");
  EXPECT_FALSE(store.store->read_only());
  EXPECT_EQ(store.Served(), served_);
  full.RefuseWrites(absl::OkStatus());
  // The deletion's record does not fit, half of it was written.
  full.FailCall(full.calls(), absl::ResourceExhaustedError("ENOSPC"));
  EXPECT_EQ(Outcome(store.store->Delete("acme", "a")),
            "RESOURCE_EXHAUSTED STORE_FULL");
  EXPECT_EQ(store.Served(), served_);
  EXPECT_TRUE(store.store->Delete("acme", "a").ok());
  EXPECT_TRUE(store.Upload("acme", "new", 3).ok());
  store.store.reset();
  TestStore again;
  ASSERT_TRUE(again.Open(&fs_, root_).ok());
  EXPECT_EQ(again.Served().size(), 1u);
  EXPECT_EQ(again.History("acme", "a"), "-");
}

}  // namespace
}  // namespace descant
