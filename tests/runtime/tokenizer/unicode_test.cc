#include "runtime/tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/detokenizer.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

std::string Lossy(absl::string_view bytes) {
  std::string out;
  Utf8Stream stream;
  stream.Append(bytes, &out);
  stream.Flush(&out);
  return out;
}

#define FFFD "\xef\xbf\xbd"

// The examples of Unicode 15, section 3.9, tables 3-8 to 3-11.
TEST(UnicodeTest, MaximalInvalidSequencesBecomeOneReplacementEach) {
  EXPECT_EQ(Lossy("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
            FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A");
  EXPECT_EQ(Lossy("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
            FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A");
  EXPECT_EQ(Lossy("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
            FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B");
  EXPECT_EQ(Lossy("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"),
            FFFD FFFD FFFD FFFD "A");
}

TEST(UnicodeTest, EveryCutOfTheBytesGivesTheSame) {
  const std::string bytes =
      "a\xf0\x9f\x98\x80\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41\xed\xa0\xc3";
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second = first; second <= bytes.size(); ++second) {
      std::string out;
      Utf8Stream stream;
      stream.Append(bytes.substr(0, first), &out);
      EXPECT_TRUE(IsValidUtf8(out));
      stream.Append(bytes.substr(first, second - first), &out);
      EXPECT_TRUE(IsValidUtf8(out));
      stream.Append(bytes.substr(second), &out);
      stream.Flush(&out);
      ASSERT_EQ(out, Lossy(bytes));
    }
  }
}

TEST(UnicodeTest, ValidityOfEveryCodePoint) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Step step = NextUtf8(text);
    ASSERT_EQ(step.kind, Utf8Step::kCharacter);
    ASSERT_EQ(step.length, text.size());
    ASSERT_EQ(step.code_point, c);
  }
  EXPECT_FALSE(IsValidUtf8("\xed\xa0\x80"));
  EXPECT_FALSE(IsValidUtf8("\xc1\x81"));
  EXPECT_FALSE(IsValidUtf8("\xf4\x90\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("a\xe2\x82"));
}

TEST(UnicodeTest, NfcOrdersAndComposes) {
  EXPECT_EQ(NormalizeNfc("e\xcc\x81"), "\xc3\xa9");
  EXPECT_EQ(NormalizeNfc("\xe2\x84\xab"), "\xc3\x85");  // Angstrom sign
  // Acute (class 230) then cedilla (202), and the other way round.
  EXPECT_EQ(NormalizeNfc("x\xcc\x81\xcc\xa7"),
            NormalizeNfc("x\xcc\xa7\xcc\x81"));
  EXPECT_EQ(NormalizeNfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"),
            "\xea\xb0\x81");  // Hangul
  EXPECT_EQ(NormalizeNfc(""), "");
}

// Each class is the one of the crate that `tokenizers` uses for it, for every
// code point.
TEST(UnicodeTest, ClassesEqualHuggingFaces) {
  const auto golden = ReadSourceJson("tests/golden/data/unicode_classes.json");
  const std::pair<const char*, bool (*)(char32_t)> classes[] = {
      {"space", IsSpace},
      {"punctuation", IsPunctuation},
      {"numeric", IsNumeric},
      {"word", IsWord},
      {"nonspacing_mark", IsNonspacingMark},
      {"mark", IsMark},
  };
  for (const auto& [name, in_class] : classes) {
    std::vector<bool> expected(0x110000);
    for (const auto& range : golden[name]) {
      for (size_t c = range[0]; c <= range[1].get<size_t>(); ++c) {
        expected[c] = true;
      }
    }
    for (char32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xd800 && c < 0xe000) continue;
      ASSERT_EQ(in_class(c), expected[c])
          << name << " " << static_cast<uint32_t>(c);
    }
  }
  std::map<char32_t, std::string> lowercase;
  for (const auto& entry : golden["lowercase"]) {
    lowercase[entry[0].get<uint32_t>()] = entry[1];
  }
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string expected;
    AppendUtf8(c, &expected);
    if (lowercase.count(c) > 0) expected = lowercase[c];
    std::string lower;
    AppendLowercase(c, &lower);
    ASSERT_EQ(lower, expected) << static_cast<uint32_t>(c);
  }
}

TEST(ByteLevelTest, AlphabetIsABijection) {
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    EXPECT_EQ(FromByteLevel(ToByteLevel(byte)), byte);
  }
  EXPECT_EQ(ToByteLevel(" \n\xad"), "\xc4\xa0\xc4\x8a\xc5\x83");
  // A token outside the alphabet is its own bytes.
  EXPECT_EQ(FromByteLevel("a b"), "a b");
}

}  // namespace
}  // namespace descant
