// Normalizers, pre-tokenizers, decoders and post-processors of tokenizer.json.
#include "runtime/tokenizer/hf_components.h"

#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/known_patterns.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

constexpr int kMaxDepth = 8;
constexpr size_t kMaxComponents = 64;
constexpr size_t kMaxStrip = 64;  // held back while streaming

absl::Status FlattenInto(const Json& component, const char* items, int depth,
                         std::vector<const Json*>* flat) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(component, "type"));
  if (type != "Sequence") {
    flat->push_back(&component);
    if (flat->size() > kMaxComponents) {
      return Unsupported(items, "more than 64");
    }
    return absl::OkStatus();
  }
  if (depth == kMaxDepth) return Unsupported("Sequence", "nested deeply");
  DESCANT_ASSIGN_OR_RETURN(const Json* array, Array(component, items));
  for (const Json& item : *array) {
    DESCANT_RETURN_IF_ERROR(FlattenInto(item, items, depth + 1, flat));
  }
  return absl::OkStatus();
}

// {"Regex": ...} or {"String": ...}.
absl::StatusOr<Regex> ReadPattern(const Json& component) {
  DESCANT_ASSIGN_OR_RETURN(const Json* pattern, Object(component, "pattern"));
  if (Member(*pattern, "Regex") != nullptr) {
    DESCANT_ASSIGN_OR_RETURN(const std::string regex,
                             String(*pattern, "Regex"));
    return Regex::Compile(regex);
  }
  DESCANT_ASSIGN_OR_RETURN(const std::string text, String(*pattern, "String"));
  return Regex::Literal(text);
}

// A string of exactly one character.
absl::StatusOr<std::string> Character(const Json& object, const char* name) {
  DESCANT_ASSIGN_OR_RETURN(std::string text, String(object, name));
  if (text.empty() || NextUtf8(text).length != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json: \"", name, "\" must be one character"));
  }
  return text;
}

absl::StatusOr<size_t> Count(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value == nullptr || !value->is_number_unsigned()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\" must be a count"));
  }
  return value->get<size_t>();
}

absl::StatusOr<NormalizerStep> ReadBert(const Json& item) {
  BertStep step;
  DESCANT_ASSIGN_OR_RETURN(step.clean_text, BoolOr(item, "clean_text", true));
  DESCANT_ASSIGN_OR_RETURN(step.handle_chinese_chars,
                           BoolOr(item, "handle_chinese_chars", true));
  DESCANT_ASSIGN_OR_RETURN(step.lowercase, BoolOr(item, "lowercase", true));
  DESCANT_ASSIGN_OR_RETURN(step.strip_accents,
                           BoolOr(item, "strip_accents", step.lowercase));
  return step;
}

absl::StatusOr<NormalizerStep> ReadNormalizerStep(const Json& item) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(item, "type"));
  if (type == "NFC") return UnicodeFormStep{UnicodeForm::kNfc};
  if (type == "NFD") return UnicodeFormStep{UnicodeForm::kNfd};
  if (type == "NFKC") return UnicodeFormStep{UnicodeForm::kNfkc};
  if (type == "NFKD") return UnicodeFormStep{UnicodeForm::kNfkd};
  if (type == "Lowercase") return LowercaseStep{};
  if (type == "StripAccents") return StripAccentsStep{};
  if (type == "Nmt") return NmtStep{};
  if (type == "ByteLevel") return ByteLevelSpellingStep{};
  if (type == "BertNormalizer") return ReadBert(item);
  if (type == "Prepend") {
    PrependStep step;
    DESCANT_ASSIGN_OR_RETURN(step.text, String(item, "prepend"));
    return step;
  }
  if (type == "Strip") {
    StripStep step;
    DESCANT_ASSIGN_OR_RETURN(step.left, BoolOr(item, "strip_left", true));
    DESCANT_ASSIGN_OR_RETURN(step.right, BoolOr(item, "strip_right", true));
    return step;
  }
  if (type == "Replace") {
    DESCANT_ASSIGN_OR_RETURN(Regex pattern, ReadPattern(item));
    DESCANT_ASSIGN_OR_RETURN(std::string content, String(item, "content"));
    return ReplaceStep{std::move(pattern), std::move(content)};
  }
  if (type == "Precompiled") {
    DESCANT_ASSIGN_OR_RETURN(const std::string encoded,
                             String(item, "precompiled_charsmap"));
    std::string bytes;
    if (!absl::Base64Unescape(encoded, &bytes)) {
      return absl::InvalidArgumentError(
          "tokenizer.json: precompiled_charsmap is not base64");
    }
    DESCANT_ASSIGN_OR_RETURN(PrecompiledMap map, PrecompiledMap::Parse(bytes));
    return PrecompiledStep{std::move(map)};
  }
  return Unsupported("normalizer", type);
}

absl::StatusOr<SplitBehavior> ReadBehavior(const std::string& name) {
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Unsupported("Split behavior", name);
}

absl::StatusOr<PreTokenizerStep> ReadSplit(const Json& item) {
  DESCANT_ASSIGN_OR_RETURN(Regex pattern, ReadPattern(item));
  SplitStep step{std::move(pattern)};
  DESCANT_ASSIGN_OR_RETURN(const std::string behavior,
                           String(item, "behavior"));
  DESCANT_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(behavior));
  DESCANT_ASSIGN_OR_RETURN(step.invert, BoolOr(item, "invert", false));
  return step;
}

absl::StatusOr<PreTokenizerStep> ReadByteLevel(const Json& item) {
  ByteLevelStep step;
  DESCANT_ASSIGN_OR_RETURN(step.add_prefix_space,
                           BoolOr(item, "add_prefix_space", true));
  DESCANT_ASSIGN_OR_RETURN(const bool use_regex,
                           BoolOr(item, "use_regex", true));
  if (use_regex) {
    DESCANT_ASSIGN_OR_RETURN(step.pattern, Regex::Compile(kGpt2Pattern));
  }
  return step;
}

// `prepend_scheme`, or `add_prefix_space` of older files.
absl::StatusOr<MetaspaceStep::Prepend> ReadPrepend(const Json& item) {
  DESCANT_ASSIGN_OR_RETURN(const std::string scheme,
                           StringOr(item, "prepend_scheme", "always"));
  DESCANT_ASSIGN_OR_RETURN(const bool prefix,
                           BoolOr(item, "add_prefix_space", true));
  if (!prefix && scheme != "never") {
    // Hugging Face refuses the file too, unless the scheme is left out.
    if (Member(item, "prepend_scheme") != nullptr) {
      return absl::InvalidArgumentError(
          "tokenizer.json: Metaspace's add_prefix_space and prepend_scheme "
          "contradict each other");
    }
    return MetaspaceStep::Prepend::kNever;
  }
  if (scheme == "always") return MetaspaceStep::Prepend::kAlways;
  if (scheme == "first") return MetaspaceStep::Prepend::kFirst;
  if (scheme == "never") return MetaspaceStep::Prepend::kNever;
  return Unsupported("Metaspace prepend_scheme", scheme);
}

absl::StatusOr<PreTokenizerStep> ReadMetaspace(const Json& item) {
  MetaspaceStep step;
  DESCANT_ASSIGN_OR_RETURN(step.replacement, Character(item, "replacement"));
  DESCANT_ASSIGN_OR_RETURN(step.prepend, ReadPrepend(item));
  DESCANT_ASSIGN_OR_RETURN(step.split, BoolOr(item, "split", true));
  return step;
}

// Appends the one or two steps of a pre-tokenizer.
absl::Status AppendPreTokenizer(const Json& item,
                                std::vector<PreTokenizerStep>* steps) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(item, "type"));
  const auto add = [&](CharacterClass in_class, SplitBehavior behavior) {
    steps->push_back(SplitStep{in_class, behavior});
    return absl::OkStatus();
  };
  const auto append = [&](absl::StatusOr<PreTokenizerStep> step) {
    if (!step.ok()) return step.status();
    steps->push_back(*std::move(step));
    return absl::OkStatus();
  };
  if (type == "ByteLevel") return append(ReadByteLevel(item));
  if (type == "Metaspace") return append(ReadMetaspace(item));
  if (type == "Split") return append(ReadSplit(item));
  if (type == "Digits") {
    DESCANT_ASSIGN_OR_RETURN(const bool individual,
                             BoolOr(item, "individual_digits", false));
    return add(IsNumeric, individual ? SplitBehavior::kIsolated
                                     : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    DESCANT_ASSIGN_OR_RETURN(const std::string name,
                             StringOr(item, "behavior", "Isolated"));
    DESCANT_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(name));
    return add(IsPunctuation, behavior);
  }
  if (type == "CharDelimiterSplit") {
    DESCANT_ASSIGN_OR_RETURN(const std::string delimiter,
                             Character(item, "delimiter"));
    DESCANT_ASSIGN_OR_RETURN(Regex pattern, Regex::Literal(delimiter));
    steps->push_back(SplitStep{std::move(pattern), SplitBehavior::kRemoved});
    return absl::OkStatus();
  }
  if (type == "WhitespaceSplit") return add(IsSpace, SplitBehavior::kRemoved);
  if (type == "BertPreTokenizer") {
    add(IsSpace, SplitBehavior::kRemoved).IgnoreError();
    return add(IsPunctuation, SplitBehavior::kIsolated);
  }
  if (type == "Whitespace") {
    // \w+|[^\w\s]+
    add(IsSpace, SplitBehavior::kRemoved).IgnoreError();
    return add(IsWord, SplitBehavior::kContiguous);
  }
  return Unsupported("pre_tokenizer", type);
}

absl::StatusOr<DecoderStep> ReadStrip(const Json& item) {
  StripDecode step;
  DESCANT_ASSIGN_OR_RETURN(step.content, Character(item, "content"));
  DESCANT_ASSIGN_OR_RETURN(step.start, Count(item, "start"));
  DESCANT_ASSIGN_OR_RETURN(step.stop, Count(item, "stop"));
  if (step.start > kMaxStrip || step.stop > kMaxStrip) {
    return Unsupported("decoder", "Strip of more than 64");
  }
  return step;
}

absl::StatusOr<DecoderStep> ReadDecoderStep(const Json& item) {
  DESCANT_ASSIGN_OR_RETURN(const std::string type, String(item, "type"));
  if (type == "ByteLevel") return ByteLevelDecode{};
  if (type == "ByteFallback") return ByteFallbackDecode{};
  if (type == "Fuse") return FuseDecode{};
  if (type == "Strip") return ReadStrip(item);
  if (type == "Metaspace") {
    MetaspaceDecode step;
    DESCANT_ASSIGN_OR_RETURN(step.replacement, Character(item, "replacement"));
    DESCANT_ASSIGN_OR_RETURN(const auto prepend, ReadPrepend(item));
    step.drop_in_first = prepend != MetaspaceStep::Prepend::kNever;
    return step;
  }
  if (type == "WordPiece") {
    WordPieceDecode step;
    DESCANT_ASSIGN_OR_RETURN(step.prefix, StringOr(item, "prefix", "##"));
    DESCANT_ASSIGN_OR_RETURN(step.cleanup, BoolOr(item, "cleanup", true));
    return step;
  }
  if (type == "Replace") {
    DESCANT_ASSIGN_OR_RETURN(Regex pattern, ReadPattern(item));
    DESCANT_ASSIGN_OR_RETURN(std::string content, String(item, "content"));
    return ReplaceDecode{std::move(pattern), std::move(content)};
  }
  if (type == "BPEDecoder") {
    BpeDecode step;
    DESCANT_ASSIGN_OR_RETURN(step.suffix, StringOr(item, "suffix", "</w>"));
    return step;
  }
  return Unsupported("decoder", type);
}

// The ids that one piece of a template stands for.
absl::Status AppendTemplateToken(const Json& processor, const Json& piece,
                                 std::vector<int32_t>* ids) {
  DESCANT_ASSIGN_OR_RETURN(const Json* special, Object(piece, "SpecialToken"));
  DESCANT_ASSIGN_OR_RETURN(const std::string name, String(*special, "id"));
  DESCANT_ASSIGN_OR_RETURN(const Json* known,
                           Object(processor, "special_tokens"));
  DESCANT_ASSIGN_OR_RETURN(const Json* token, Object(*known, name.c_str()));
  DESCANT_ASSIGN_OR_RETURN(const Json* values, Array(*token, "ids"));
  for (const Json& value : *values) {
    DESCANT_ASSIGN_OR_RETURN(
        const int32_t id, TokenIdFrom(value, "tokenizer.json: special_tokens"));
    ids->push_back(id);
  }
  return absl::OkStatus();
}

absl::StatusOr<PostProcessing> ReadTemplate(const Json& processor) {
  DESCANT_ASSIGN_OR_RETURN(const Json* pieces, Array(processor, "single"));
  PostProcessing result;
  int sequences = 0;
  for (const Json& piece : *pieces) {
    if (const Json* sequence = Member(piece, "Sequence"); sequence != nullptr) {
      DESCANT_ASSIGN_OR_RETURN(const std::string id, String(*sequence, "id"));
      if (id != "A") return Unsupported("template sequence", id);
      ++sequences;
      continue;
    }
    DESCANT_RETURN_IF_ERROR(AppendTemplateToken(
        processor, piece, sequences == 0 ? &result.prefix : &result.suffix));
  }
  if (sequences != 1) {
    return Unsupported("post_processor", "template without exactly one $A");
  }
  return result;
}

// ["[CLS]", 101], under `name`.
absl::StatusOr<int32_t> ReadTokenPair(const Json& processor, const char* name) {
  DESCANT_ASSIGN_OR_RETURN(const Json* pair, Array(processor, name));
  if (pair->size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\" must be a token and its id"));
  }
  return TokenIdFrom((*pair)[1], absl::StrCat("tokenizer.json: ", name));
}

}  // namespace

absl::Status Unsupported(absl::string_view part, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("tokenizer.json: ", part, " \"",
                                               what, "\" is not supported"));
}

absl::StatusOr<std::vector<const Json*>> Flatten(const Json& component,
                                                 const char* items) {
  std::vector<const Json*> flat;
  DESCANT_RETURN_IF_ERROR(FlattenInto(component, items, 0, &flat));
  return flat;
}

absl::StatusOr<std::vector<NormalizerStep>> ReadNormalizer(const Json& root) {
  std::vector<NormalizerStep> steps;
  const Json* component = Member(root, "normalizer");
  if (component == nullptr) return steps;
  DESCANT_ASSIGN_OR_RETURN(const auto items,
                           Flatten(*component, "normalizers"));
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(NormalizerStep step, ReadNormalizerStep(*item));
    steps.push_back(std::move(step));
  }
  return steps;
}

absl::StatusOr<std::vector<PreTokenizerStep>> ReadPreTokenizer(
    const Json& root) {
  std::vector<PreTokenizerStep> steps;
  const Json* component = Member(root, "pre_tokenizer");
  if (component == nullptr) return steps;
  DESCANT_ASSIGN_OR_RETURN(const auto items,
                           Flatten(*component, "pretokenizers"));
  for (const Json* item : items) {
    DESCANT_RETURN_IF_ERROR(AppendPreTokenizer(*item, &steps));
  }
  return steps;
}

absl::StatusOr<Decoder> ReadDecoder(const Json& root) {
  std::vector<DecoderStep> steps;
  const Json* component = Member(root, "decoder");
  if (component == nullptr) {
    steps.emplace_back(SpaceDecode{});
    return Decoder::Create(std::move(steps));
  }
  DESCANT_ASSIGN_OR_RETURN(const auto items, Flatten(*component, "decoders"));
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(DecoderStep step, ReadDecoderStep(*item));
    steps.push_back(std::move(step));
  }
  return Decoder::Create(std::move(steps));
}

absl::StatusOr<PostProcessing> ReadPostProcessor(const Json& root) {
  PostProcessing result;
  const Json* component = Member(root, "post_processor");
  if (component == nullptr) return result;
  DESCANT_ASSIGN_OR_RETURN(const auto items, Flatten(*component, "processors"));
  bool has_one = false;
  for (const Json* item : items) {
    DESCANT_ASSIGN_OR_RETURN(const std::string type, String(*item, "type"));
    // ByteLevel only moves offsets.
    if (type == "ByteLevel") continue;
    if (has_one) return Unsupported("second post_processor", type);
    has_one = true;
    if (type == "TemplateProcessing") {
      DESCANT_ASSIGN_OR_RETURN(result, ReadTemplate(*item));
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      DESCANT_ASSIGN_OR_RETURN(const int32_t cls, ReadTokenPair(*item, "cls"));
      DESCANT_ASSIGN_OR_RETURN(const int32_t sep, ReadTokenPair(*item, "sep"));
      result.prefix = {cls};
      result.suffix = {sep};
    } else {
      return Unsupported("post_processor", type);
    }
  }
  return result;
}

}  // namespace descant
