#include "server/cli/adapter_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace descant::cli {
namespace {

namespace fs = std::filesystem;

class AdapterFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "adapter_folder_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    path_ = root_ + "/new/folder";
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string Read(const char* name) const {
    std::ifstream file(path_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  size_t Files() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(path_), {}));
  }
  absl::Status Save(const std::string& config, const std::string& tensors,
                    bool overwrite) {
    auto folder = AdapterFolder::Open(path_, overwrite);
    if (!folder.ok()) return folder.status();
    EXPECT_TRUE((*folder)->WriteConfig(config).ok());
    EXPECT_TRUE((*folder)->AppendTensors(tensors).ok());
    return (*folder)->Commit();
  }

  std::string root_;
  std::string path_;
};

TEST_F(AdapterFolderTest, HasTheFilesOnceAllIsThere) {
  auto folder = AdapterFolder::Open(path_, false);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*folder)->WriteConfig("{}").ok());
  ASSERT_TRUE((*folder)->AppendTensors("ab").ok());
  ASSERT_TRUE((*folder)->AppendTensors(std::string("c\0d", 3)).ok());
  EXPECT_FALSE(fs::exists(path_ + "/" + kAdapterTensorsFile));
  ASSERT_TRUE((*folder)->Commit().ok());
  folder->reset();
  EXPECT_EQ(Read(kAdapterConfigFile), "{}");
  EXPECT_EQ(Read(kAdapterTensorsFile), std::string("abc\0d", 5));
  EXPECT_EQ(Files(), 2u);
}

TEST_F(AdapterFolderTest, LeavesNothingOfWhatBroke) {
  {
    auto folder = AdapterFolder::Open(path_, false);
    ASSERT_TRUE(folder.ok());
    ASSERT_TRUE((*folder)->AppendTensors("half").ok());
    EXPECT_EQ(Files(), 2u);
  }
  EXPECT_EQ(Files(), 0u);
}

TEST_F(AdapterFolderTest, OverwritesOnlyWhenAsked) {
  ASSERT_TRUE(Save("old", "old", false).ok());
  EXPECT_EQ(Save("new", "new", false).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Read(kAdapterConfigFile), "old");
  EXPECT_EQ(Files(), 2u);
  ASSERT_TRUE(Save("new", "new", true).ok());
  EXPECT_EQ(Read(kAdapterConfigFile), "new");
  EXPECT_EQ(Read(kAdapterTensorsFile), "new");
  EXPECT_EQ(Files(), 2u);
}

TEST_F(AdapterFolderTest, SomebodyElsesFilesStay) {
  auto folder = AdapterFolder::Open(path_, false);
  ASSERT_TRUE(folder.ok());
  ASSERT_TRUE((*folder)->WriteConfig("mine").ok());
  std::ofstream(path_ + "/" + kAdapterConfigFile) << "theirs";
  EXPECT_EQ((*folder)->Commit().code(), absl::StatusCode::kAlreadyExists);
  folder->reset();
  EXPECT_EQ(Read(kAdapterConfigFile), "theirs");
  EXPECT_EQ(Files(), 1u) << "half a pair is none";
}

}  // namespace
}  // namespace descant::cli
