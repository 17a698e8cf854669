#include "runtime/base/fs.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

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

}  // namespace
}  // namespace descant
