// Tokenizer::FromGguf().
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/known_patterns.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {
namespace {

// The numbers of tokenizer.ggml.token_type (ggml's GGUF specification).
enum GgufTokenType { kUnknown = 2, kControl = 3, kUserDefined = 4 };

// What a name in tokenizer.ggml.pre stands for.
struct PreName {
  absl::string_view name;
  absl::string_view pattern;
  bool single_digits;  // digits are split off one by one first
  bool nfc;
  bool ignore_merges;
};

constexpr std::array<PreName, 10> kPreNames = {{
    {"gpt-2", kGpt2Pattern, false, false, false},
    {"phi-2", kGpt2Pattern, false, false, false},
    {"smollm", kGpt2Pattern, true, false, false},
    {"starcoder", kGpt2Pattern, true, false, false},
    {"refact", kGpt2Pattern, true, false, false},
    {"llama-bpe", kLlama3Pattern, false, false, true},
    {"llama3", kLlama3Pattern, false, false, true},
    {"llama-v3", kLlama3Pattern, false, false, true},
    {"qwen2", kQwen2Pattern, false, true, false},
    {"deepseek-r1-qwen", kQwen2Pattern, false, true, false},
}};

absl::StatusOr<PreName> FindPreName(const std::string& name) {
  std::string known;
  for (const PreName& entry : kPreNames) {
    if (entry.name == name) return entry;
    absl::StrAppend(&known, known.empty() ? "" : ", ", entry.name);
  }
  return absl::UnimplementedError(absl::StrCat(
      "tokenizer.ggml.pre \"", name, "\" is not known; known are: ", known));
}

absl::StatusOr<PreTokenizer> MakePreTokenizer(const PreName& pre) {
  std::vector<PreTokenizerStep> steps;
  for (const absl::string_view pattern :
       {pre.single_digits ? kDigitPattern : "", pre.pattern}) {
    if (pattern.empty()) continue;
    DESCANT_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(pattern));
    steps.push_back(SplitStep{std::move(regex)});
  }
  return PreTokenizer(std::move(steps));
}

absl::StatusOr<std::unique_ptr<BpeModel>> MakeModel(
    const GgufVocabulary& vocabulary, bool ignore_merges) {
  BpeModel::Vocabulary tokens;
  tokens.reserve(vocabulary.tokens.size());
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (!tokens.emplace(vocabulary.tokens[i], i).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens: token ", i, " is there twice"));
    }
  }
  BpeModel::Merges merges;
  merges.reserve(vocabulary.merges.size());
  for (const std::string& merge : vocabulary.merges) {
    // The alphabet has no space, so the only one separates.
    const size_t space = merge.find(' ');
    if (space == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.merges: merge ", merges.size(),
                       " is not \"left right\""));
    }
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  BpeModel::Options options;
  options.ignore_merges = ignore_merges;
  return BpeModel::Create(std::move(tokens), merges, options);
}

std::vector<AddedToken> AddedTokens(const GgufVocabulary& vocabulary) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < vocabulary.token_types.size(); ++i) {
    const int32_t type = vocabulary.token_types[i];
    if (type != kUnknown && type != kControl && type != kUserDefined) continue;
    if (vocabulary.tokens[i].empty()) continue;
    AddedToken token;
    token.content = vocabulary.tokens[i];
    token.id = static_cast<int32_t>(i);
    token.special = type != kUserDefined;
    added.push_back(std::move(token));
  }
  return added;
}

absl::Status SetNamed(const char* key, int id, size_t size,
                      std::optional<int32_t>* named) {
  if (id < 0) return absl::OkStatus();
  if (static_cast<size_t>(id) >= size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer.ggml.", key, " is ", id, ", beyond the vocabulary"));
  }
  *named = id;
  return absl::OkStatus();
}

absl::Status Validate(const GgufVocabulary& vocabulary) {
  if (vocabulary.model != "gpt2") {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.model \"", vocabulary.model,
                     "\" is not supported, only \"gpt2\""));
  }
  if (vocabulary.tokens.empty() ||
      vocabulary.tokens.size() > TokenTable::kMaxSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer.ggml.tokens has ", vocabulary.tokens.size(), " tokens"));
  }
  if (!vocabulary.token_types.empty() &&
      vocabulary.token_types.size() != vocabulary.tokens.size()) {
    return absl::InvalidArgumentError(
        "tokenizer.ggml.token_type and .tokens differ in length");
  }
  return absl::OkStatus();
}

absl::Status SetSpecialIds(const GgufVocabulary& vocabulary,
                           TokenizerParts* parts) {
  const size_t size = vocabulary.tokens.size();
  NamedTokens& named = parts->named;
  DESCANT_RETURN_IF_ERROR(
      SetNamed("bos_token_id", vocabulary.bos, size, &named.bos));
  DESCANT_RETURN_IF_ERROR(
      SetNamed("eos_token_id", vocabulary.eos, size, &named.eos));
  DESCANT_RETURN_IF_ERROR(
      SetNamed("padding_token_id", vocabulary.pad, size, &named.pad));
  DESCANT_RETURN_IF_ERROR(
      SetNamed("unknown_token_id", vocabulary.unk, size, &named.unk));
  if (vocabulary.add_bos) {
    if (!named.bos.has_value()) {
      return absl::InvalidArgumentError(
          "tokenizer.ggml.add_bos_token is set without bos_token_id");
    }
    parts->prefix.push_back(*named.bos);
  }
  if (vocabulary.add_eos) {
    if (!named.eos.has_value()) {
      return absl::InvalidArgumentError(
          "tokenizer.ggml.add_eos_token is set without eos_token_id");
    }
    parts->suffix.push_back(*named.eos);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(
    GgufVocabulary vocabulary) {
  DESCANT_RETURN_IF_ERROR(Validate(vocabulary));
  DESCANT_ASSIGN_OR_RETURN(const PreName pre, FindPreName(vocabulary.pre));
  TokenizerParts::Components components;
  DESCANT_ASSIGN_OR_RETURN(components.pre_tokenizer, MakePreTokenizer(pre));
  DESCANT_ASSIGN_OR_RETURN(components.model,
                           MakeModel(vocabulary, pre.ignore_merges));
  if (pre.nfc) {
    std::vector<NormalizerStep> steps;
    steps.emplace_back(UnicodeFormStep{UnicodeForm::kNfc});
    components.normalizer = Normalizer(std::move(steps));
  }
  components.added = AddedTokens(vocabulary);
  DESCANT_ASSIGN_OR_RETURN(auto parts,
                           TokenizerParts::Create(std::move(components)));
  DESCANT_RETURN_IF_ERROR(SetSpecialIds(vocabulary, parts.get()));
  parts->chat_template = std::move(vocabulary.chat_template);
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace descant
