#include "server/cli/run/line_reader.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace descant::cli {
namespace {

std::string Save(const std::string& content) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/line_reader_", getpid(), ".txt");
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::vector<InputLine> ReadAll(const std::string& content) {
  auto reader = LineReader::Open(Save(content));
  EXPECT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->total_bytes(), content.size());
  EXPECT_TRUE(reader->is_file());
  std::vector<InputLine> lines;
  InputLine line;
  while (true) {
    const auto result = reader->Next(&line);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok() || *result != LineReader::Result::kLine) break;
    lines.push_back(line);
  }
  return lines;
}

TEST(LineReaderTest, NumbersAndOffsets) {
  const auto lines = ReadAll("\xef\xbb\xbfone\r\n\n  \t\nfour\nfive");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].text, "one");
  EXPECT_EQ(lines[0].number, 1);
  EXPECT_EQ(lines[0].end, 8u);
  EXPECT_EQ(lines[1].text, "four");
  EXPECT_EQ(lines[1].number, 4);
  EXPECT_EQ(lines[2].text, "five");
  EXPECT_EQ(lines[2].number, 5);
  EXPECT_EQ(lines[2].end, 22u);
  EXPECT_TRUE(ReadAll("").empty());
  EXPECT_TRUE(ReadAll("\n\n").empty());
}

TEST(LineReaderTest, LinesLongerThanOneRead) {
  std::string content;
  std::vector<std::string> texts;
  for (const size_t size : {65535, 1, 65536, 200000, 3}) {
    texts.push_back(std::string(size, static_cast<char>('a' + texts.size())));
    absl::StrAppend(&content, texts.back(), "\n");
  }
  const auto lines = ReadAll(content);
  ASSERT_EQ(lines.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(lines[i].text, texts[i]);
    EXPECT_FALSE(lines[i].too_long);
  }
  EXPECT_EQ(lines.back().end, content.size());
}

TEST(LineReaderTest, TooLongIsOneLineThatIsCut) {
  const auto lines = ReadAll(
      absl::StrCat(std::string(2 * kMaxLineBytes + 70000, 'x'), "\nnext\n"));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(lines[0].too_long);
  EXPECT_LE(lines[0].text.size(), kMaxLineBytes + 65536);
  EXPECT_EQ(lines[1].text, "next");
  EXPECT_EQ(lines[1].number, 2);
  EXPECT_FALSE(lines[1].too_long);
}

TEST(LineReaderTest, APipeNeverBlocks) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  // Standard input of this test's process becomes the pipe.
  const int saved = dup(STDIN_FILENO);
  ASSERT_GE(dup2(ends[0], STDIN_FILENO), 0);
  {
    auto reader = LineReader::Open("-");
    ASSERT_TRUE(reader.ok());
    EXPECT_FALSE(reader->is_file());
    InputLine line;
    EXPECT_EQ(*reader->Next(&line), LineReader::Result::kNotYet);
    ASSERT_EQ(write(ends[1], "a\nb", 3), 3);
    EXPECT_EQ(*reader->Next(&line), LineReader::Result::kLine);
    EXPECT_EQ(line.text, "a");
    EXPECT_EQ(*reader->Next(&line), LineReader::Result::kNotYet);
    close(ends[1]);
    EXPECT_EQ(*reader->Next(&line), LineReader::Result::kLine);
    EXPECT_EQ(line.text, "b");
    EXPECT_EQ(*reader->Next(&line), LineReader::Result::kEnd);
  }
  dup2(saved, STDIN_FILENO);
  close(saved);
  close(ends[0]);
}

TEST(LineReaderTest, WhatIsNoFile) {
  EXPECT_EQ(LineReader::Open("/nowhere/at/all").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(LineReader::Open("/").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace descant::cli
