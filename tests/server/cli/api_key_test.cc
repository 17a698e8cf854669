#include "server/cli/api_key.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace descant::cli {
namespace {

class ApiKeyTest : public ::testing::Test {
 protected:
  ApiKeyTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "api-key-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    unsetenv("DESCANT_API_KEY");
  }
  ~ApiKeyTest() override {
    unsetenv("DESCANT_API_KEY");
    std::filesystem::remove_all(folder_);
  }

  absl::StatusOr<std::string> FromFile(const std::string& content) {
    const std::string path = folder_ + "/key";
    std::ofstream(path, std::ios::binary) << content;
    return LoadApiKey(path);
  }

  std::string folder_;
};

TEST_F(ApiKeyTest, TheFileWinsOverTheEnvironment) {
  EXPECT_EQ(*LoadApiKey(""), "");
  setenv("DESCANT_API_KEY", " of-the-environment\n", 1);
  EXPECT_EQ(*LoadApiKey(""), "of-the-environment");
  EXPECT_EQ(*FromFile("of-the-file\n"), "of-the-file");
}

TEST_F(ApiKeyTest, WhatIsNoKeyIsRefusedAndNotRepeated) {
  for (const std::string& content :
       {std::string(), std::string("\n"), std::string("secret one"),
        std::string("secret\r\nx: y"), std::string("secret\0x", 8),
        std::string("secret\xc3\xa4"), std::string(5000, 's')}) {
    const auto key = FromFile(content);
    ASSERT_FALSE(key.ok()) << content;
    EXPECT_TRUE(absl::IsInvalidArgument(key.status()));
    EXPECT_EQ(key.status().message().find("secret"), absl::string_view::npos);
  }
  setenv("DESCANT_API_KEY", "", 1);
  EXPECT_TRUE(absl::IsInvalidArgument(LoadApiKey("").status()));
}

TEST_F(ApiKeyTest, AFileThatCannotBeRead) {
  EXPECT_TRUE(absl::IsNotFound(LoadApiKey(folder_ + "/none").status()));
  EXPECT_TRUE(absl::IsNotFound(LoadApiKey(folder_).status()));
}

}  // namespace
}  // namespace descant::cli
