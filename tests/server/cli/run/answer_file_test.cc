#include "server/cli/run/answer_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant::cli {
namespace {

using ::testing::HasSubstr;

class AnswerFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(
        testing::TempDir(), "/answers_", getpid(), "_",
        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    path_ = folder_ + "/out.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  AnswerFile Open(bool retry_failed = false) {
    auto file = AnswerFile::Open(path_, retry_failed);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  std::string Read() const {
    std::ifstream file(path_, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void Write(const std::string& content) const {
    std::ofstream(path_, std::ios::binary) << content;
  }
  static Json Answer(int64_t line) {
    return AnswerRecord(line, "", 0xabc0 + static_cast<uint64_t>(line),
                        {{"text", "t"}});
  }
  static Json Error(int64_t line) {
    return AnswerRecord(line, "", 0xabc0 + static_cast<uint64_t>(line),
                        {{"error", {{"code", "NOT_FOUND"}}}});
  }

  std::string folder_;
  std::string path_;
};

TEST_F(AnswerFileTest, RecordsAreFoundAgain) {
  {
    AnswerFile file = Open();
    EXPECT_EQ(file.last_line(), 0);
    ASSERT_TRUE(file.Append(Answer(2)).ok());
    ASSERT_TRUE(file.Append(Error(5)).ok());
    ASSERT_TRUE(
        file.Append(AnswerRecord(1, "name", 1, {{"text", "\xff"}})).ok());
    ASSERT_TRUE(file.Finish(/*in_order=*/false).ok());
  }
  EXPECT_EQ(Read(),
            "{\"line\":2,\"input\":\"000000000000abc2\",\"text\":\"t\"}\n"
            "{\"line\":5,\"input\":\"000000000000abc5\","
            "\"error\":{\"code\":\"NOT_FOUND\"}}\n"
            "{\"line\":1,\"id\":\"name\",\"input\":\"0000000000000001\","
            "\"text\":\"\xef\xbf\xbd\"}\n");
  const AnswerFile file = Open();
  EXPECT_EQ(file.last_line(), 5);
  EXPECT_EQ(file.answered(), 2);
  EXPECT_EQ(file.failed(), 1);
  EXPECT_EQ(file.Find(1), 1u);
  EXPECT_EQ(file.Find(2), 0xabc2u);
  EXPECT_EQ(file.Find(3), std::nullopt);
  EXPECT_EQ(file.Find(5), 0xabc5u);
  EXPECT_EQ(file.Find(6), std::nullopt);
}

// A crash tears the last record at any of its bytes.
TEST_F(AnswerFileTest, ATornEndIsCut) {
  const std::string whole = Answer(1).dump() + "\n";
  const std::string torn = Answer(2).dump() + "\n";
  for (size_t size = 0; size < torn.size(); ++size) {
    Write(whole + torn.substr(0, size));
    {
      AnswerFile file = Open();
      EXPECT_EQ(file.answered(), 1) << size;
      EXPECT_EQ(file.Find(2), std::nullopt) << size;
      ASSERT_TRUE(file.Append(Answer(3)).ok());
    }
    EXPECT_EQ(Read(), whole + Answer(3).dump() + "\n") << size;
  }
  // Blocks that a power cut left unwritten.
  Write(whole + std::string(100, '\0'));
  EXPECT_EQ(Open().answered(), 1);
  EXPECT_EQ(Read(), whole);
}

TEST_F(AnswerFileTest, AnotherFileIsNeverCut) {
  for (const std::string& content :
       {std::string("{\"text\": \"a prompt\"}"), std::string("hello\n"),
        Answer(1).dump() + "\nhello", std::string("\0\0", 2),
        Answer(1).dump() + "\n" + Answer(2).dump().substr(0, 20) + "\n" +
            Answer(3).dump() + "\n"}) {
    Write(content);
    const auto file = AnswerFile::Open(path_, false);
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument)
        << content;
    EXPECT_EQ(Read(), content);
  }
  Write(Answer(1).dump() + "\n" + Answer(1).dump() + "\n");
  EXPECT_THAT(std::string(AnswerFile::Open(path_, false).status().message()),
              HasSubstr("twice"));
}

TEST_F(AnswerFileTest, RetryDropsErrorsOnly) {
  Write(absl::StrCat(Error(1).dump(), "\n", Answer(3).dump(), "\n",
                     Error(2).dump(), "\n"));
  std::filesystem::permissions(path_, std::filesystem::perms(0640));
  AnswerFile file = Open(/*retry_failed=*/true);
  EXPECT_EQ(file.failed(), 0);
  EXPECT_EQ(file.Find(1), std::nullopt);
  EXPECT_EQ(file.Find(3), 0xabc3u);
  ASSERT_TRUE(file.Append(Answer(1)).ok());
  EXPECT_EQ(Read(), Answer(3).dump() + "\n" + Answer(1).dump() + "\n");
  EXPECT_EQ(std::filesystem::status(path_).permissions(),
            std::filesystem::perms(0640));
}

TEST_F(AnswerFileTest, InOrderAtTheEnd) {
  std::string sorted;
  {
    AnswerFile file = Open();
    for (int64_t line = 1; line <= 300; ++line) {
      absl::StrAppend(&sorted, Answer(line).dump(), "\n");
      ASSERT_TRUE(file.Append(Answer((line * 7) % 300 + 1)).ok());
    }
    ASSERT_TRUE(file.Finish(/*in_order=*/true).ok());
  }
  EXPECT_EQ(Read(), sorted);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    (void)entry;
    ++files;
  }
  EXPECT_EQ(files, 1u);
}

TEST_F(AnswerFileTest, OneRunAtATime) {
  const AnswerFile file = Open();
  EXPECT_EQ(AnswerFile::Open(path_, false).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(AnswerFile::Open(folder_, false).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(AnswerFile::Open("/dev/null", false).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(AnswerFileTest, AFullDiskIsAnError) {
  // Standard output as a disk that is full.
  const int saved = dup(STDOUT_FILENO);
  FILE* full = fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  dup2(fileno(full), STDOUT_FILENO);
  auto to_full = AnswerFile::Open("-", false);
  const absl::Status status = to_full->Append(Answer(1));
  dup2(saved, STDOUT_FILENO);
  close(saved);
  fclose(full);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No space left"));
}

}  // namespace
}  // namespace descant::cli
