// Tokenizer::FromGguf().
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/gguf_pre_tokenizers.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {
namespace {

constexpr absl::string_view kSentencePieceSpace = "\xe2\x96\x81";  // U+2581

absl::StatusOr<PreTokenizer> MakePreTokenizer(const GgufPreTokenizer& pre) {
  std::vector<PreTokenizerStep> steps;
  for (const absl::string_view pattern : pre.patterns) {
    if (pattern.empty()) continue;
    DESCANT_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(pattern));
    steps.push_back(SplitStep{std::move(regex)});
  }
  return PreTokenizer(std::move(steps));
}

int32_t TypeOf(const GgufVocabulary& vocabulary, size_t id) {
  return vocabulary.token_types.empty() ? kGgufNormal
                                        : vocabulary.token_types[id];
}

absl::StatusOr<TokenVocabulary> TokensById(const GgufVocabulary& vocabulary) {
  TokenVocabulary tokens;
  tokens.reserve(vocabulary.tokens.size());
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.tokens[i].empty()) continue;
    if (!tokens.emplace(vocabulary.tokens[i], i).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens: token ", i, " is there twice"));
    }
  }
  return tokens;
}

absl::StatusOr<std::unique_ptr<BpeModel>> MakeByteLevelModel(
    const GgufVocabulary& vocabulary, bool ignore_merges) {
  if (vocabulary.merges.empty() && vocabulary.tokens.size() > 256) {
    return absl::InvalidArgumentError("tokenizer.ggml.merges is missing");
  }
  DESCANT_ASSIGN_OR_RETURN(TokenVocabulary tokens, TokensById(vocabulary));
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

absl::StatusOr<std::unique_ptr<BpeModel>> MakeSentencePieceModel(
    const GgufVocabulary& vocabulary) {
  const size_t size = vocabulary.tokens.size();
  if (vocabulary.scores.size() != size) {
    return absl::InvalidArgumentError(
        "tokenizer.ggml.scores must have one score a token");
  }
  DESCANT_ASSIGN_OR_RETURN(TokenVocabulary tokens, TokensById(vocabulary));
  // All others are found in the raw text or come from bytes.
  std::vector<bool> unmergeable(size);
  for (size_t i = 0; i < size; ++i) {
    unmergeable[i] = TypeOf(vocabulary, i) != kGgufNormal;
  }
  BpeModel::Options options;
  options.byte_level = false;
  options.byte_fallback = true;
  options.fuse_unknown = true;
  if (vocabulary.unk >= 0) options.unknown_id = vocabulary.unk;
  return BpeModel::CreateFromScores(std::move(tokens), vocabulary.scores,
                                    unmergeable, options);
}

// As Llama 2's tokenizer.json has it, without add_space_prefix as Gemma's.
absl::Status SetSentencePieceSteps(bool add_space_prefix,
                                   TokenizerParts::Components* components) {
  DESCANT_ASSIGN_OR_RETURN(Regex plain, Regex::Literal(" "));
  DESCANT_ASSIGN_OR_RETURN(Regex stored, Regex::Literal(kSentencePieceSpace));
  std::vector<NormalizerStep> normalizer;
  std::vector<DecoderStep> decoder;
  if (add_space_prefix)
    normalizer.push_back(PrependStep{std::string(kSentencePieceSpace)});
  normalizer.push_back(
      ReplaceStep{std::move(plain), std::string(kSentencePieceSpace)});
  decoder.push_back(ReplaceDecode{std::move(stored), " "});
  decoder.push_back(ByteFallbackDecode{});
  decoder.push_back(FuseDecode{});
  if (add_space_prefix) decoder.push_back(StripDecode{" ", 1, 0});
  components->normalizer = Normalizer(std::move(normalizer));
  DESCANT_ASSIGN_OR_RETURN(components->decoder,
                           Decoder::Create(std::move(decoder)));
  return absl::OkStatus();
}

// A run of spaces is stored as such, whatever the vocabulary's own spelling;
// Hugging Face finds both.
std::vector<AddedToken> AddedTokens(const GgufVocabulary& vocabulary) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < vocabulary.token_types.size(); ++i) {
    const int32_t type = vocabulary.token_types[i];
    if (type != kGgufUnknown && type != kGgufControl &&
        type != kGgufUserDefined)
      continue;
    const std::string& text = vocabulary.tokens[i];
    if (text.empty()) continue;
    AddedToken token;
    token.content = text;
    token.id = static_cast<int32_t>(i);
    token.special = type != kGgufUserDefined;
    token.rstrip = vocabulary.specials_strip_right && text != "<s>" &&
                   text != "<unk>" && text != "<|endoftext|>";
    if (vocabulary.model == "llama" && type == kGgufUserDefined &&
        text.find_first_not_of(' ') == std::string::npos) {
      AddedToken spelled = token;
      spelled.content = absl::StrReplaceAll(text, {{" ", kSentencePieceSpace}});
      added.push_back(std::move(spelled));
    }
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
  if (vocabulary.model != "gpt2" && vocabulary.model != "llama") {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.model \"", vocabulary.model,
                     "\" is not supported, only \"gpt2\" and \"llama\""));
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
                           bool add_bos_by_default, TokenizerParts* parts) {
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
  if (vocabulary.add_bos.value_or(add_bos_by_default &&
                                  named.bos.has_value())) {
    if (!named.bos.has_value()) {
      return absl::InvalidArgumentError(
          "tokenizer.ggml.add_bos_token is set without bos_token_id");
    }
    parts->prefix.push_back(*named.bos);
  }
  if (vocabulary.add_eos.value_or(false)) {
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
  TokenizerParts::Components components;
  bool add_bos = true;
  if (vocabulary.model == "llama") {
    DESCANT_ASSIGN_OR_RETURN(components.model,
                             MakeSentencePieceModel(vocabulary));
    DESCANT_RETURN_IF_ERROR(
        SetSentencePieceSteps(vocabulary.add_space_prefix, &components));
  } else {
    DESCANT_ASSIGN_OR_RETURN(const GgufPreTokenizer pre,
                             FindGgufPreTokenizer(vocabulary.pre));
    add_bos = pre.add_bos;
    DESCANT_ASSIGN_OR_RETURN(components.pre_tokenizer, MakePreTokenizer(pre));
    DESCANT_ASSIGN_OR_RETURN(components.model,
                             MakeByteLevelModel(vocabulary, pre.ignore_merges));
    if (pre.nfc) {
      std::vector<NormalizerStep> steps;
      steps.emplace_back(UnicodeFormStep{UnicodeForm::kNfc});
      components.normalizer = Normalizer(std::move(steps));
    }
  }
  components.added = AddedTokens(vocabulary);
  DESCANT_ASSIGN_OR_RETURN(auto parts,
                           TokenizerParts::Create(std::move(components)));
  DESCANT_RETURN_IF_ERROR(SetSpecialIds(vocabulary, add_bos, parts.get()));
  parts->chat_template = std::move(vocabulary.chat_template);
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace descant
