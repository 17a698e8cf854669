#include "runtime/tokenizer/gguf_pre_tokenizers.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/known_patterns.h"

namespace descant {
namespace {

constexpr GgufPreTokenizer kPreTokenizers[] = {
    {"gpt-2", {kGpt2Pattern}},
    {"phi-2", {kGpt2Pattern}},
    {"smollm", {kDigitPattern, kGpt2Pattern}},
    {"starcoder", {kDigitPattern, kGpt2Pattern}},
    {"refact", {kDigitPattern, kGpt2Pattern}},
    {"llama-bpe", {kLlama3Pattern}, false, true, true},
    {"llama3", {kLlama3Pattern}, false, true, true},
    {"llama-v3", {kLlama3Pattern}, false, true, true},
    {"smaug-bpe", {kLlama3Pattern}},
    {"dbrx", {kLlama3Pattern}},  // GPT-4's, as Phi-4 has it
    {"gpt-4o", {kO200kPattern}},
    {"qwen2", {kQwen2Pattern}, true},
    {"deepseek-r1-qwen", {kQwen2Pattern}, true},
    {"megrez", {kQwen2Pattern}, true},
    {"tekken", {kTekkenPattern}, false, true, true},
    {"deepseek-llm",
     {kNewlinePattern, kDeepSeekLetters, kDeepSeekPunctuation,
      kDeepSeekTrailing, kDeepSeekHan, kDigitsPattern}},
    {"deepseek-coder",
     {kNewlinePattern, kDeepSeekCoderLetters, kDeepSeekCoderPunctuation,
      kDeepSeekHan, kDigitPattern}},
    {"deepseek-v3", {kDeepSeek3Digits, kDeepSeek3Han, kDeepSeek3Pattern}},
    {"default",
     {kDefaultPunctuation, kGpt2Pattern, kDigitsPattern, kThreeDigits}},
};

}  // namespace

absl::StatusOr<GgufPreTokenizer> FindGgufPreTokenizer(const std::string& name) {
  std::string known;
  for (const GgufPreTokenizer& entry : kPreTokenizers) {
    if (entry.name == name) return entry;
    absl::StrAppend(&known, known.empty() ? "" : ", ", entry.name);
  }
  return absl::UnimplementedError(absl::StrCat(
      "tokenizer.ggml.pre \"", name, "\" is not known; known are: ", known));
}

}  // namespace descant
