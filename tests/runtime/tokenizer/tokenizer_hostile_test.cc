// Texts that do their worst to a pattern, to merging or to normalization: time
// stays bounded.
#include <gtest/gtest.h>
#include <time.h>

#include <cstdio>

#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/tokenizer_files.h"

namespace descant {
namespace {

#if defined(__SANITIZE_THREAD__)
// One thread, forty times slower: TSan has little to see here.
constexpr size_t kBytes = 1 << 14;
constexpr size_t kFamilyBytes = 1 << 12;
constexpr size_t kLongestBytes = 1 << 14;
constexpr double kLimitSeconds = 20;
#elif defined(__SANITIZE_ADDRESS__)
constexpr size_t kBytes = 1 << 17;
constexpr size_t kFamilyBytes = 1 << 14;
constexpr size_t kLongestBytes = 1 << 17;
constexpr double kLimitSeconds = 20;
#else
constexpr size_t kBytes = 1 << 19;
constexpr size_t kFamilyBytes = 1 << 17;
constexpr size_t kLongestBytes = 39 * (1 << 20) / 10;
constexpr double kLimitSeconds = 4;
#endif

using Ids = std::vector<int32_t>;

struct HostileText {
  const char* name;
  std::string text;
};

std::string Repeat(absl::string_view unit, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text.append(unit.data(), unit.size());
  return text;
}

std::vector<HostileText> HostileTexts(size_t bytes) {
  return {
      {"letter", Repeat("a", bytes)},
      {"space", Repeat(" ", bytes)},
      {"space, then a letter", Repeat(" ", bytes) + "x"},
      {"newline", Repeat("\n", bytes)},
      {"combining mark", Repeat("\xcc\x81", bytes)},
      {"marks in falling class order", Repeat("\xcc\x81\xcc\xa7", bytes)},
      {"digit", Repeat("7", bytes)},
      {"apostrophe", Repeat("'", bytes)},
      {"half of a special token", Repeat("<|im_", bytes)},
      {"special token", Repeat("<|im_end|>", bytes)},
      {"alternating", Repeat("a ", bytes)},
      {"pair", Repeat("th", bytes)},
      {"emoji", Repeat("\xf0\x9f\x98\x80", bytes)},
      {"upper case", Repeat("A", bytes)},
      {"ligature of 18", Repeat("\xef\xb7\xba", bytes)},
      {"metaspace", Repeat("\xe2\x96\x81", bytes)},
      {"newer than PCRE2", Repeat("\xf0\xb1\x8d\x90", bytes)},
      {"mask and spaces", Repeat("<mask>    ", bytes)},
  };
}

// Of this thread: what else runs on the machine doesn't count.
double CpuSeconds() {
  timespec now{};
  DESCANT_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

Ids EncodeInTime(const char* tokenizer_name, const Tokenizer& tokenizer,
                 const HostileText& item) {
  const double start = CpuSeconds();
  const auto ids = tokenizer.Encode(item.text);
  const double seconds = CpuSeconds() - start;
  EXPECT_TRUE(ids.ok()) << item.name << ": " << ids.status();
  EXPECT_LT(seconds, kLimitSeconds) << tokenizer_name << ": " << item.name;
  if (!ids.ok()) return {};
  if (seconds > kLimitSeconds / 20) {
    std::printf("%-14s %-30s %8zu ids %6.3f s\n", tokenizer_name, item.name,
                ids->size(), seconds);
  }
  return *ids;
}

TEST(HostileTest, TheDemoVocabulary) {
  GgufVocabulary vocabulary = *DemoVocabulary();
  for (const char* pre : {"smollm", "llama-bpe", "qwen2"}) {
    vocabulary.pre = pre;
    const auto tokenizer = *Tokenizer::FromGguf(vocabulary);
    for (const HostileText& item : HostileTexts(kBytes)) {
      const Ids ids = EncodeInTime(pre, *tokenizer, item);
      if (absl::string_view(pre) != "qwen2" && item.text[0] != '\xf0') {
        EXPECT_EQ(tokenizer->Decode(ids, false), item.text) << item.name;
      }
    }
  }
}

constexpr const char* kFamilies[] = {
    "llama2", "mistral-v3", "phi3",        "gemma", "clip",
    "claude", "t5",         "xlm-roberta", "bert",  "word-level"};

TEST(HostileTest, EveryKindOfTokenizer) {
  for (const char* name : kFamilies) {
    const auto tokenizer =
        *Tokenizer::FromHuggingFace(GoldenTokenizer(name), "");
    for (const HostileText& item : HostileTexts(kFamilyBytes)) {
      const Ids ids = EncodeInTime(name, *tokenizer, item);
      EXPECT_TRUE(IsValidUtf8(tokenizer->Decode(ids, true)));
    }
  }
}

// Where the whole text is one piece.
TEST(HostileTest, TheLongestPromptWithoutPreTokenizer) {
  for (const char* name : {"llama2", "t5"}) {
    const auto tokenizer =
        *Tokenizer::FromHuggingFace(GoldenTokenizer(name), "");
    for (const char* unit : {"a", "  ", "\xcc\x81\xcc\xa7"}) {
      EncodeInTime(name, *tokenizer, {"longest", Repeat(unit, kLongestBytes)});
    }
  }
}

}  // namespace
}  // namespace descant
