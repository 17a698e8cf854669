#include "runtime/base/fs.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace descant {
namespace {

class FsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "descant_fs_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  absl::Status Write(const std::string& path, const std::string& text) {
    auto file = fs_.Create(path);
    if (!file.ok()) return file.status();
    return (*file)->Append(absl::MakeConstSpan(text.data(), text.size()));
  }

  PosixFs fs_;
  std::string root_;
};

TEST_F(FsTest, CreatesPrivateNewFilesOnly) {
  const std::string path = root_ + "/a";
  ASSERT_TRUE(Write(path, "one").ok());
  EXPECT_EQ(Write(path, "two").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(*ReadFile(&fs_, path, 100), "one");
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(FsTest, AppendsAfterACut) {
  const std::string path = root_ + "/a";
  ASSERT_TRUE(Write(path, "0123456789").ok());
  auto file = fs_.OpenAppend(path, 4);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string tail = "xy";
  ASSERT_TRUE((*file)->Append(absl::MakeConstSpan(tail.data(), 2)).ok());
  ASSERT_TRUE((*file)->Sync().ok());
  EXPECT_EQ(*ReadFile(&fs_, path, 100), "0123xy");
}

TEST_F(FsTest, ReadsArePositionalAndShortAtTheEnd) {
  const std::string path = root_ + "/a";
  ASSERT_TRUE(Write(path, "0123456789").ok());
  const auto file = fs_.OpenRead(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->size(), 10u);
  std::string out(4, ' ');
  EXPECT_EQ(*(*file)->Read(8, absl::MakeSpan(out)), 2u);
  EXPECT_EQ(out, "89  ");
  EXPECT_EQ(*(*file)->Read(99, absl::MakeSpan(out)), 0u);
  EXPECT_EQ(ReadFile(&fs_, path, 9).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(FsTest, NeverFollowsLinksNorOpensOtherThings) {
  ASSERT_TRUE(Write(root_ + "/target", "x").ok());
  std::filesystem::create_symlink(root_ + "/target", root_ + "/link");
  ASSERT_EQ(::mkfifo((root_ + "/fifo").c_str(), 0600), 0);
  std::filesystem::create_directory(root_ + "/dir");
  for (const char* name : {"/link", "/dir", "/fifo"}) {
    EXPECT_EQ(fs_.OpenRead(root_ + name).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
    EXPECT_EQ(fs_.OpenAppend(root_ + name, 0).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
  EXPECT_EQ(Write(root_ + "/link", "y").code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(fs_.CreateDirectory(root_ + "/link").code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(FsTest, ListsKindsInOrder) {
  ASSERT_TRUE(Write(root_ + "/b", "x").ok());
  ASSERT_TRUE(fs_.CreateDirectory(root_ + "/a").ok());
  ASSERT_TRUE(fs_.CreateDirectory(root_ + "/a").ok());
  std::filesystem::create_symlink("b", root_ + "/c");
  const auto entries = fs_.ListDirectory(root_);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_TRUE((*entries)[0].is_directory);
  EXPECT_TRUE((*entries)[1].is_file);
  EXPECT_FALSE((*entries)[2].is_file || (*entries)[2].is_directory);
}

TEST_F(FsTest, RenamesAndRemoves) {
  ASSERT_TRUE(Write(root_ + "/a", "1").ok());
  ASSERT_TRUE(Write(root_ + "/b", "2").ok());
  ASSERT_TRUE(fs_.Rename(root_ + "/a", root_ + "/b").ok());
  ASSERT_TRUE(fs_.SyncDirectory(root_).ok());
  EXPECT_EQ(*ReadFile(&fs_, root_ + "/b", 9), "1");
  ASSERT_TRUE(fs_.Remove(root_ + "/b").ok());
  EXPECT_EQ(fs_.Remove(root_ + "/b").code(), absl::StatusCode::kNotFound);
}

TEST_F(FsTest, LocksExcludeEachOther) {
  auto first = fs_.Lock(root_ + "/LOCK");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(fs_.Lock(root_ + "/LOCK").status().code(),
            absl::StatusCode::kUnavailable);
  first->reset();
  EXPECT_TRUE(fs_.Lock(root_ + "/LOCK").ok());
}

TEST_F(FsTest, MessagesNameNoPath) {
  const absl::Status status = fs_.OpenRead(root_ + "/missing").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message().find("missing"), absl::string_view::npos);
}

// A limit on the size of files gives short counts, then an error.
TEST_F(FsTest, ShortWritesAreContinuedAndTooLongOnesFail) {
  const std::string path = root_ + "/a";
  struct rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  struct rlimit small = old;
  small.rlim_cur = 100000;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = Write(path, std::string(150000, 'x'));
  const absl::Status fits = Write(path + "2", std::string(100000, 'y'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(std::filesystem::file_size(path), 100000u);  // what went, went
  EXPECT_TRUE(fits.ok()) << fits;
  EXPECT_EQ(*ReadFile(&fs_, path + "2", 1 << 20), std::string(100000, 'y'));
}

std::atomic<int> signals{0};

// Signals that interrupt system calls (no SA_RESTART), every 50 microseconds.
TEST_F(FsTest, SignalsInterruptNothing) {
  struct sigaction old_action = {};
  struct sigaction action = {};
  action.sa_handler = [](int) { ++signals; };
  ASSERT_EQ(::sigaction(SIGALRM, &action, &old_action), 0);
  const struct itimerval storm = {{0, 50}, {0, 50}};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &storm, nullptr), 0);
  const std::string block(1 << 20, 'z');
  std::string failures;
  const auto expect = [&failures](const char* what,
                                  const absl::Status& status) {
    if (!status.ok()) failures += std::string(what) + status.ToString() + "; ";
  };
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  int rounds = 0;
  while (rounds < 3 || std::chrono::steady_clock::now() < deadline) {
    const std::string path = root_ + "/" + std::to_string(rounds++);
    {
      auto file = fs_.Create(path);
      expect("create ", file.status());
      if (!file.ok()) break;
      expect("append ", (*file)->Append({block.data(), block.size()}));
      expect("sync ", (*file)->Sync());
    }
    expect("open append ", fs_.OpenAppend(path, 1000).status());
    expect("rename ", fs_.Rename(path, path + ".new"));
    expect("sync directory ", fs_.SyncDirectory(root_));
    expect("lock ", fs_.Lock(path + ".lock").status());
    expect("list ", fs_.ListDirectory(root_).status());
    const auto read = ReadFile(&fs_, path + ".new", 1 << 20);
    expect("read ", read.status());
    if (read.ok() && read->size() != 1000) failures += "size; ";
    expect("remove ", fs_.Remove(path + ".new"));
    expect("mkdir ", fs_.CreateDirectory(path));
    expect("rmdir ", fs_.RemoveDirectory(path));
  }
  const struct itimerval none = {};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &none, nullptr), 0);
  ASSERT_EQ(::sigaction(SIGALRM, &old_action, nullptr), 0);
  EXPECT_EQ(failures, "");
  EXPECT_GT(signals.load(), 50);
}

TEST_F(FsTest, SharedLocksKeepOthersOut) {
  const std::string path = root_ + "/LOCK";
  EXPECT_EQ(fs_.LockShared(path).status().code(), absl::StatusCode::kNotFound);
  {
    const auto writer = fs_.Lock(path);
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(fs_.LockShared(path).status().code(),
              absl::StatusCode::kUnavailable);
  }
  const auto one = fs_.LockShared(path);
  const auto two = fs_.LockShared(path);
  EXPECT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(fs_.Lock(path).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace descant
