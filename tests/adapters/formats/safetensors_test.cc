// Rows 26-41 of the bad-input table: the container itself.
#include "adapters/formats/safetensors.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "adapters/formats/safetensors_writer.h"
#include "tests/adapters/adapter_fixture.h"

namespace descant {
namespace {

constexpr char kGoodHeader[] =
    R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("b":{"dtype":"F16","shape":[1,4],"data_offsets":[16,24]}})";

std::string Parse(const std::string& file) {
  return Outcome(ParseSafetensors(BytesOf(file), SafetensorsLimits()).status());
}

// One tensor of F32 [2,2] with one field's text replaced.
std::string OneTensor(const std::string& dtype, const std::string& shape,
                      const std::string& offsets, size_t data_bytes = 16) {
  return RawSafetensors(
      absl::StrCat(R"({"a":{"dtype":)", dtype, R"(,"shape":)", shape,
                   R"(,"data_offsets":)", offsets, "}}"),
      std::string(data_bytes, 'x'));
}

TEST(SafetensorsTest, ReadsAGoodFile) {
  const std::string file = RawSafetensors(kGoodHeader, std::string(24, 'x'));
  const auto index = ParseSafetensors(BytesOf(file), SafetensorsLimits());
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->tensors.size(), 2u);
  const SafetensorsTensor* b = index->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, Dtype::kF16);
  EXPECT_EQ(b->shape[1], 4u);
  EXPECT_EQ(b->begin, index->data_begin + 16);
  EXPECT_EQ(b->end, file.size());
  EXPECT_EQ(index->Find("c"), nullptr);
}

TEST(SafetensorsTest, AcceptsMetadataAndTrailingSpaces) {
  EXPECT_EQ(Parse(RawSafetensors(
                R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32",)"
                R"("shape":[1,1],"data_offsets":[0,4]}}     )",
                "1234")),
            "OK");
}

TEST(SafetensorsTest, WriterIsReadBack) {
  std::vector<SafetensorsEntry> entries;
  entries.push_back({"z", Dtype::kF32, {1, 2}, std::string(8, 'z')});
  entries.push_back({"a\"\n", Dtype::kBF16, {3, 1}, std::string(6, 'a')});
  const std::string file = WriteSafetensors(entries);
  const auto index = ParseSafetensors(BytesOf(file), SafetensorsLimits());
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->data_begin % 8, 0u);
  const SafetensorsTensor* z = index->Find("z");
  ASSERT_NE(z, nullptr);
  EXPECT_EQ(file.substr(z->begin, z->bytes()), std::string(8, 'z'));
  EXPECT_NE(index->Find("a\"\n"), nullptr);
}

struct BadFile {
  std::string what;
  std::string file;
  std::string outcome;
};

void PrintTo(const BadFile& bad, std::ostream* out) { *out << bad.what; }

std::string Length(uint64_t length, size_t file_bytes = 64) {
  std::string file;
  AppendLittleEndian(length, &file);
  file += "{}";
  file.resize(file_bytes, ' ');
  return file;
}

std::vector<BadFile> ContainerCases() {
  constexpr char kSmall[] = "INVALID_ARGUMENT SAFETENSORS_TOO_SMALL";
  constexpr char kLength[] = "INVALID_ARGUMENT SAFETENSORS_HEADER_LENGTH";
  constexpr char kHeader[] = "INVALID_ARGUMENT SAFETENSORS_HEADER_INVALID";
  const auto raw = [](const std::string& header) {
    return RawSafetensors(header, "");
  };
  return {
      {"row 26: 0 bytes", "", kSmall},
      {"row 26: 1 byte", "x", kSmall},
      {"row 26: 7 bytes", "1234567", kSmall},
      {"row 26: 8 bytes", "12345678", kSmall},
      {"row 27: N = 0", Length(0), kLength},
      {"row 27: N = 1", Length(1), kLength},
      {"row 27: N = file size", Length(64), kLength},
      {"row 27: N = file size - 7", Length(57), kLength},
      {"row 27: N = 2^32", Length(uint64_t{1} << 32), kLength},
      {"row 27: N = 2^63", Length(uint64_t{1} << 63), kLength},
      {"row 27: N = 2^64 - 1", Length(UINT64_MAX), kLength},
      {"row 28: N = 100,000,001", Length(100'000'001), kLength},
      {"row 29: not UTF-8", raw("{\"\xff\":1}"), kHeader},
      {"row 29: not JSON", raw("{hello}"), kHeader},
      {"row 29: []", raw("[]"), kHeader},
      {"row 29: null", raw("null"), kHeader},
      {"row 29: number", raw("17"), kHeader},
      {"row 29: leading space", raw(" {}"), kHeader},
      {"row 29: newline after", raw("{}\n"), kHeader},
      {"row 29: NUL after", raw(std::string("{}\0", 3)), kHeader},
      {"row 29: byte-order mark", raw("\xef\xbb\xbf{}"), kHeader},
      {"row 29: comment", raw("{/**/}"), kHeader},
      {"row 29: trailing comma", raw(R"({"__metadata__":{},})"), kHeader},
      {"row 30: 100,000 deep",
       raw("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') +
           "}"),
       kHeader},
      {"row 30: 100,000 open objects", raw([] {
         std::string deep;
         for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
         return deep + "}";
       }()),
       kHeader},
      {"row 41: pickle",
       std::string("\x80\x02}q\x00X\x04\x00\x00\x00", 10) +
           std::string(64, 'q'),
       kLength},
      {"row 41: GGUF",
       std::string("GGUF\x03\x00\x00\x00", 8) + std::string(64, '\0'), kLength},
      {"row 41: ZIP",
       std::string("PK\x03\x04\x14\x00\x08\x08", 8) + std::string(64, '\0'),
       kLength},
      {"row 41: gzip",
       std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00", 8) +
           std::string(64, '\0'),
       kLength},
  };
}

std::vector<BadFile> TensorCases() {
  const std::string f32 = "\"F32\"";
  const std::string shape = "[2,2]";
  const std::string offsets = "[0,16]";
  const std::string invalid = "INVALID_ARGUMENT ";
  std::vector<BadFile> cases;
  for (const char* dtype : {"\"F64\"", "\"I32\"", "\"F4\"", "\"f16\"", "\"\"",
                            "null", "7", "[\"F32\"]"}) {
    cases.push_back({absl::StrCat("row 33: dtype ", dtype),
                     OneTensor(dtype, shape, offsets),
                     invalid + "SAFETENSORS_DTYPE"});
  }
  cases.push_back(
      {"row 33: dtype missing",
       RawSafetensors(R"({"a":{"shape":[2,2],"data_offsets":[0,16]}})",
                      std::string(16, 'x')),
       invalid + "SAFETENSORS_DTYPE"});
  std::string dims300 = "[1";
  for (int i = 1; i < 300; ++i) dims300 += ",1";
  dims300 += "]";
  for (const std::string& bad :
       {std::string("[]"), std::string("[0,8]"), std::string("[-1,8]"),
        std::string("[1.5,8]"), std::string("[1e3,8]"),
        std::string("[\"8\",8]"), std::string("[\"8\"]"),
        std::string("[2,2,1]"), dims300, std::string("[4]"), std::string("4"),
        std::string("null"),
        // Row 35.
        std::string("[2,9223372036854775808]"),
        std::string("[4294967296,4294967296]"),
        std::string("[18446744073709551614,2]"),
        std::string("[18446744073709551616,1]")}) {
    cases.push_back({absl::StrCat("rows 34, 35: shape ", bad.substr(0, 40)),
                     OneTensor(f32, bad, offsets),
                     invalid + "SAFETENSORS_SHAPE"});
  }
  for (const char* bad :
       {"[16,0]", "[0]", "[0,8,16]", "[-1,15]", "[0.0,16]", "[0,17]",
        "[0,18446744073709551615]", "null", "[\"0\",\"16\"]", "16", "[]"}) {
    cases.push_back({absl::StrCat("row 36: offsets ", bad),
                     OneTensor(f32, shape, bad),
                     invalid + "SAFETENSORS_OFFSETS"});
  }
  cases.push_back({"row 36: offsets equal", OneTensor(f32, shape, "[0,0]"),
                   invalid + "SAFETENSORS_SIZE_MISMATCH"});
  cases.push_back({"row 39: bytes below shape x dtype",
                   OneTensor(f32, "[2,3]", offsets),
                   invalid + "SAFETENSORS_SIZE_MISMATCH"});
  cases.push_back({"row 39: bytes above shape x dtype",
                   OneTensor(f32, "[1,2]", offsets),
                   invalid + "SAFETENSORS_SIZE_MISMATCH"});
  return cases;
}

std::string TwoTensors(const std::string& first, const std::string& second,
                       size_t data_bytes) {
  return RawSafetensors(
      absl::StrCat(R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":)",
                   first,
                   R"(},"b":{"dtype":"F32","shape":[1,2],"data_offsets":)",
                   second, "}}"),
      std::string(data_bytes, 'x'));
}

std::vector<BadFile> LayoutCases() {
  const std::string layout = "INVALID_ARGUMENT SAFETENSORS_LAYOUT";
  const std::string good = RawSafetensors(kGoodHeader, std::string(24, 'x'));
  return {
      {"row 37: overlap", TwoTensors("[0,8]", "[4,12]", 12), layout},
      {"row 37: same range", TwoTensors("[0,8]", "[0,8]", 8), layout},
      {"row 37: hole of 1 byte", TwoTensors("[0,8]", "[9,17]", 17), layout},
      {"row 37: first begin 8", TwoTensors("[8,16]", "[16,24]", 24), layout},
      {"row 37: gap at the end", TwoTensors("[0,8]", "[8,16]", 17), layout},
      {"row 38: ZIP tail", good + "PK\x05\x06" + std::string(18, '\0'), layout},
      {"row 38: ELF tail",
       good + "\x7f"
              "ELF",
       layout},
      {"row 38: pickle tail", good + "\x80\x04.", layout},
      {"row 37: no tensor, one byte", RawSafetensors("{}", "x"), layout},
  };
}

std::vector<BadFile> MapCases() {
  const std::string tensor =
      R"({"dtype":"F32","shape":[1,1],"data_offsets":[0,4]})";
  const std::string metadata = "INVALID_ARGUMENT SAFETENSORS_METADATA";
  const auto with = [&](const std::string& meta) {
    return RawSafetensors(
        "{\"__metadata__\":" + meta + ",\"a\":" + tensor + "}", "1234");
  };
  std::string many = "{\"k0\":\"\"";
  for (int i = 1; i < 2000; ++i) absl::StrAppend(&many, ",\"k", i, "\":\"\"");
  many += "}";
  return {
      {"row 32: duplicate tensor",
       RawSafetensors("{\"a\":" + tensor + ",\"a\":" + tensor + "}", "1234"),
       "INVALID_ARGUMENT SAFETENSORS_DUPLICATE_KEY"},
      {"row 32: duplicate dtype",
       RawSafetensors(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1,1],)"
                      R"("data_offsets":[0,4]}})",
                      "1234"),
       "INVALID_ARGUMENT SAFETENSORS_DUPLICATE_KEY"},
      {"row 32: duplicate through an escape",
       RawSafetensors("{\"a\":" + tensor + ",\"\\u0061\":" + tensor + "}",
                      "1234"),
       "INVALID_ARGUMENT SAFETENSORS_DUPLICATE_KEY"},
      {"row 40: nested", with(R"({"x":{}})"), metadata},
      {"row 40: number", with(R"({"x":1})"), metadata},
      {"row 40: not an object", with("\"x\""), metadata},
      {"row 40: array", with("[]"), metadata},
      {"row 40: 2,000 entries", with(many), metadata},
      {"row 40: 10 MB", with("{\"x\":\"" + std::string(10 << 20, 'x') + "\"}"),
       "INVALID_ARGUMENT SAFETENSORS_HEADER_LENGTH"},
      {"unknown field",
       RawSafetensors(R"({"a":{"dtype":"F32","shape":[1,1],)"
                      R"("data_offsets":[0,4],"x":1}})",
                      "1234"),
       "INVALID_ARGUMENT SAFETENSORS_HEADER_INVALID"},
      {"name of 257 bytes",
       RawSafetensors("{\"" + std::string(257, 'n') + "\":" + tensor + "}",
                      "1234"),
       "INVALID_ARGUMENT SAFETENSORS_TENSOR_NAME"},
      {"empty name", RawSafetensors("{\"\":" + tensor + "}", "1234"),
       "INVALID_ARGUMENT SAFETENSORS_TENSOR_NAME"},
  };
}

class SafetensorsBadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(SafetensorsBadFileTest, IsRefused) {
  EXPECT_EQ(Parse(GetParam().file), GetParam().outcome) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(Container, SafetensorsBadFileTest,
                         testing::ValuesIn(ContainerCases()));
INSTANTIATE_TEST_SUITE_P(Tensor, SafetensorsBadFileTest,
                         testing::ValuesIn(TensorCases()));
INSTANTIATE_TEST_SUITE_P(Layout, SafetensorsBadFileTest,
                         testing::ValuesIn(LayoutCases()));
INSTANTIATE_TEST_SUITE_P(Map, SafetensorsBadFileTest,
                         testing::ValuesIn(MapCases()));

std::string ManyTensors(int count) {
  std::string header = "{";
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i,
                    R"(":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]})");
  }
  return RawSafetensors(header + "}", "1234");
}

TEST(SafetensorsTest, Row31TensorsAreCappedBeforeTheyCost) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Parse(ManyTensors(15'000)),
            "INVALID_ARGUMENT SAFETENSORS_TENSOR_COUNT");
  const std::string million = ManyTensors(1'000'000);
  const auto built = std::chrono::steady_clock::now();
  EXPECT_EQ(Parse(million), "INVALID_ARGUMENT SAFETENSORS_HEADER_LENGTH");
  EXPECT_LT(std::chrono::steady_clock::now() - built,
            std::chrono::milliseconds(100));
  EXPECT_LT(built - start, std::chrono::seconds(10));
}

TEST(SafetensorsTest, OneOverTheTensorCap) {
  SafetensorsLimits limits;
  limits.max_tensors = 1;
  const std::string file = TwoTensors("[0,8]", "[8,16]", 16);
  EXPECT_EQ(Outcome(ParseSafetensors(BytesOf(file), limits).status()),
            "INVALID_ARGUMENT SAFETENSORS_TENSOR_COUNT");
  limits.max_tensors = 2;
  EXPECT_TRUE(ParseSafetensors(BytesOf(file), limits).ok());
}

TEST(SafetensorsTest, BaseModelLimitsTakeOtherRanksAndTypes) {
  const std::string file = RawSafetensors(
      R"({"i":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("w":{"dtype":"BF16","shape":[2,1,2],"data_offsets":[8,16]},)"
      R"("e":{"dtype":"F32","shape":[0,5],"data_offsets":[16,16]}})",
      std::string(16, 'x'));
  const auto index =
      ParseSafetensors(BytesOf(file), SafetensorsLimits::BaseModel());
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->Find("i")->dtype, Dtype::kOther);
  EXPECT_EQ(index->Find("w")->shape.size(), 3u);
}

TEST(SafetensorsTest, Row42EveryTruncationIsRefused) {
  const std::string file = RawSafetensors(kGoodHeader, std::string(24, 'x'));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_NE(Parse(file.substr(0, size)), "OK") << size;
  }
}

// Refused, or an index that lies within the file: never a crash.
TEST(SafetensorsTest, Row42EveryBitFlipIsHarmless) {
  const std::string file = RawSafetensors(kGoodHeader, std::string(24, 'x'));
  for (size_t bit = 0; bit < 8 * (file.size() - 24); ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto index = ParseSafetensors(BytesOf(flipped), SafetensorsLimits());
    if (!index.ok()) continue;
    for (const SafetensorsTensor& tensor : index->tensors) {
      EXPECT_LE(tensor.end, flipped.size());
    }
  }
}

TEST(SafetensorsTest, FileGivesTheTensorsBytes) {
  const std::string path = testing::TempDir() + "descant_safetensors_test";
  std::ofstream(path, std::ios::binary)
      << RawSafetensors(kGoodHeader, std::string(16, 'p') + "12345678");
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const SafetensorsTensor* b = (*file)->index().Find("b");
  ASSERT_NE(b, nullptr);
  const auto bytes = (*file)->Bytes(*b);
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "12345678");
  std::remove(path.c_str());
  EXPECT_EQ(SafetensorsFile::Open(path).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace descant
