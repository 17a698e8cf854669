#include "adapters/formats/safetensors_file_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "adapters/formats/safetensors.h"

namespace descant {
namespace {

absl::Span<const char> Bytes(const std::string& text) {
  return absl::MakeConstSpan(text.data(), text.size());
}

TEST(SafetensorsFileWriterTest, WritesWhatTheReaderReads) {
  PosixFs fs;
  const std::string path = testing::TempDir() + "safetensors_file_writer." +
                           std::to_string(::getpid());
  const std::vector<SafetensorsSpec> specs = {
      {"mask", "U8", {3}, 3},
      {"w \"quoted\"", "BF16", {2, 2}, 8},
      {"scalar", "F32", {}, 4},
      {"none", "F32", {0, 5}, 0}};
  auto writer =
      SafetensorsFileWriter::Create(&fs, path, specs, {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  // Pieces need not be tensors.
  for (const char* piece : {"abcde", "fghijkl", "mno"}) {
    ASSERT_TRUE((*writer)->Append(Bytes(piece)).ok());
  }
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ(SafetensorsFileWriter::Create(&fs, path, specs, {}).status().code(),
            absl::StatusCode::kAlreadyExists);

  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->index().tensors.size(), specs.size());
  EXPECT_EQ((*file)->index().data_begin % 8, 0u);
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"mask", "abc"},
      {"w \"quoted\"", "defghijk"},
      {"scalar", "lmno"},
      {"none", ""}};
  for (size_t i = 0; i < specs.size(); ++i) {
    const SafetensorsTensor* tensor = (*file)->index().Find(expected[i].first);
    ASSERT_NE(tensor, nullptr) << expected[i].first;
    EXPECT_EQ(tensor->dtype_name, specs[i].dtype);
    const auto bytes = (*file)->Bytes(*tensor);
    EXPECT_EQ(std::string(bytes.data(), bytes.size()), expected[i].second);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace descant
