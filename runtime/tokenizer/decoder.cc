#include "runtime/tokenizer/decoder.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/byte_fallback.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

std::string ReplaceAll(absl::string_view text, absl::string_view from,
                       absl::string_view to) {
  return absl::StrReplaceAll(text, {{from, to}});
}

// In this order, one after the other.
std::string CleanUp(std::string text) {
  constexpr std::pair<absl::string_view, absl::string_view> kPairs[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kPairs) text = ReplaceAll(text, from, to);
  return text;
}

absl::string_view StripStart(const StripDecode& step, absl::string_view text,
                             size_t* stripped) {
  while (*stripped < step.start && absl::ConsumePrefix(&text, step.content)) {
    ++*stripped;
  }
  return text;
}

// Without up to `stop` contents at the end.
absl::string_view StripStop(const StripDecode& step, absl::string_view text) {
  for (size_t i = 0; i < step.stop && absl::ConsumeSuffix(&text, step.content);
       ++i) {
  }
  return text;
}

std::string Metaspaced(const MetaspaceDecode& step, absl::string_view token,
                       bool first) {
  return ReplaceAll(token, step.replacement,
                    first && step.drop_in_first ? "" : " ");
}

std::string WordPieced(const WordPieceDecode& step, absl::string_view token,
                       bool first) {
  std::string text;
  if (first || absl::ConsumePrefix(&token, step.prefix)) {
    text = std::string(token);
  } else {
    text = absl::StrCat(" ", token);
  }
  return step.cleanup ? CleanUp(std::move(text)) : text;
}

absl::StatusOr<std::string> Replaced(const ReplaceDecode& step,
                                     absl::string_view token,
                                     RegexScratch* scratch) {
  if (token.empty()) return std::string();
  std::string out;
  size_t last = 0;
  DESCANT_RETURN_IF_ERROR(
      step.pattern.ForEachMatch(token, scratch, [&](size_t begin, size_t end) {
        absl::StrAppend(&out, token.substr(last, begin - last), step.content);
        last = end;
        return absl::OkStatus();
      }));
  absl::StrAppend(&out, token.substr(last));
  return out;
}

const char* Name(const DecoderStep& step) {
  constexpr const char* kNames[] = {"ByteLevel", "ByteFallback", "Fuse",
                                    "Metaspace", "WordPiece",    "Strip",
                                    "Replace",   "BPEDecoder",   "(none)"};
  return kNames[step.index()];
}

template <typename T>
bool Is(const DecoderStep& step) {
  return std::holds_alternative<T>(step);
}

}  // namespace

absl::Status Decoder::Add(DecoderStep step) {
  const auto refuse = [&](const char* where) {
    return absl::UnimplementedError(absl::StrCat("tokenizer.json: decoder \"",
                                                 Name(step), "\" ", where,
                                                 " is not supported"));
  };
  const bool at_front = streamed_.empty();
  if (at_front && (Is<ReplaceDecode>(step) || Is<StripDecode>(step))) {
    prepared_.push_back(std::move(step));
    return absl::OkStatus();
  }
  if (Is<ReplaceDecode>(step)) return refuse("not at the front");
  if (const auto* bpe = std::get_if<BpeDecode>(&step)) {
    if (bpe->suffix.empty()) return refuse("with an empty suffix");
  }
  if (fused_) {
    const auto* word_piece = std::get_if<WordPieceDecode>(&step);
    const bool whole_text = word_piece != nullptr && word_piece->cleanup;
    if (whole_text || Is<ByteLevelDecode>(step) ||
        Is<ByteFallbackDecode>(step) || Is<BpeDecode>(step)) {
      return refuse("after Fuse or ByteLevel");
    }
  }
  if (at_front && Is<ByteLevelDecode>(step)) {
    prepared_.emplace_back(ByteLevelDecode{});
    bytes_prepared_ = true;
  }
  const bool fuses = Is<ByteLevelDecode>(step) || Is<FuseDecode>(step);
  streamed_.push_back({std::move(step), fused_});
  fused_ |= fuses;
  return absl::OkStatus();
}

absl::StatusOr<Decoder> Decoder::Create(std::vector<DecoderStep> steps) {
  Decoder decoder;
  for (DecoderStep& step : steps) {
    DESCANT_RETURN_IF_ERROR(decoder.Add(std::move(step)));
  }
  return decoder;
}

Decoder Decoder::ByteLevel() {
  Decoder decoder;
  decoder.prepared_.emplace_back(ByteLevelDecode{});
  decoder.streamed_.push_back({ByteLevelDecode{}, false});
  decoder.fused_ = true;
  decoder.bytes_prepared_ = true;
  return decoder;
}

absl::StatusOr<std::string> Decoder::Prepare(absl::string_view token,
                                             RegexScratch* scratch) const {
  std::string text(token);
  for (const DecoderStep& step : prepared_) {
    if (const auto* replace = std::get_if<ReplaceDecode>(&step)) {
      DESCANT_ASSIGN_OR_RETURN(text, Replaced(*replace, text, scratch));
    } else if (const auto* strip = std::get_if<StripDecode>(&step)) {
      size_t stripped = 0;
      text =
          std::string(StripStop(*strip, StripStart(*strip, text, &stripped)));
    } else {
      text = FromByteLevel(text);
    }
  }
  return text;
}

std::string Decoder::Inner(absl::string_view prepared) const {
  std::string text(prepared);
  for (const Streamed& streamed : streamed_) {
    const DecoderStep& step = streamed.step;
    if (Is<ByteLevelDecode>(step)) {
      if (!bytes_prepared_) text = FromByteLevel(text);
    } else if (Is<ByteFallbackDecode>(step)) {
      if (const auto byte = ByteOfToken(text); byte.has_value()) {
        text.assign(1, static_cast<char>(*byte));
      }
    } else if (const auto* meta = std::get_if<MetaspaceDecode>(&step)) {
      text = Metaspaced(*meta, text, /*first=*/streamed.fused);
    } else if (const auto* word = std::get_if<WordPieceDecode>(&step)) {
      text = WordPieced(*word, text, /*first=*/streamed.fused);
    } else if (const auto* bpe = std::get_if<BpeDecode>(&step)) {
      text = ReplaceAll(text, bpe->suffix, " ");
    } else if (const auto* strip = std::get_if<StripDecode>(&step)) {
      size_t stripped = streamed.fused ? strip->start : 0;
      const absl::string_view rest = StripStart(*strip, text, &stripped);
      text = std::string(streamed.fused ? rest : StripStop(*strip, rest));
    } else if (Is<SpaceDecode>(step)) {
      if (!streamed.fused) text.insert(0, " ");
    }
  }
  return text;
}

// One token or part through one step.
struct DecoderFeed {
  DecoderStream* stream;
  size_t index;
  bool fused;
  absl::string_view token;
  std::string* out;

  DecoderStream::StepState& state() const { return stream->states_[index]; }
  void Pass(absl::string_view text) const {
    stream->Feed(index + 1, text, out);
  }

  void operator()(const ByteLevelDecode&) const {
    const bool prepared = index == 0 && stream->decoder_->bytes_prepared_;
    const std::string spelled = prepared ? "" : FromByteLevel(token);
    const absl::string_view bytes = prepared ? token : spelled;
    // The end of all steps replaces invalid bytes itself.
    if (index + 1 == stream->states_.size()) return Pass(bytes);
    std::string text;
    state().utf8.Append(bytes, &text);
    Pass(text);
  }
  void operator()(const ByteFallbackDecode&) const {
    if (const auto byte = ByteOfToken(token); byte.has_value()) {
      state().held.push_back(static_cast<char>(*byte));
      return;
    }
    EndBytes();
    Pass(token);
  }
  void EndBytes() const {
    const std::string bytes = std::exchange(state().held, "");
    if (bytes.empty()) return;
    if (IsValidUtf8(bytes)) return Pass(bytes);
    for (size_t i = 0; i < bytes.size(); ++i) Pass(kReplacement);
  }
  void operator()(const FuseDecode&) const { Pass(token); }
  void operator()(const MetaspaceDecode& step) const {
    Pass(Metaspaced(step, token, fused || state().first));
  }
  void operator()(const WordPieceDecode& step) const {
    Pass(WordPieced(step, token, fused || state().first));
  }
  void operator()(const SpaceDecode&) const {
    if (fused || state().first) return Pass(token);
    Pass(absl::StrCat(" ", token));
  }
  void operator()(const StripDecode& step) const {
    size_t stripped = 0;
    if (!fused)
      return Pass(StripStop(step, StripStart(step, token, &stripped)));
    absl::string_view rest = token;
    if (!state().started) {
      rest = StripStart(step, rest, &state().stripped);
      if (rest.empty()) return;
      state().started = true;
    }
    const std::string text = absl::StrCat(state().held, rest);
    const absl::string_view kept = StripStop(step, text);
    state().held = text.substr(kept.size());
    Pass(kept);
  }
  void operator()(const BpeDecode& step) const {
    if (!state().first) Pass(ReplaceAll(state().held, step.suffix, " "));
    state().held = std::string(token);
  }
  void operator()(const ReplaceDecode&) const {}  // never streamed
};

DecoderStream::DecoderStream(const Decoder* decoder)
    : decoder_(decoder), states_(decoder->streamed_.size()) {}

void DecoderStream::Append(absl::string_view prepared, std::string* out) {
  Feed(0, prepared, out);
}

void DecoderStream::Feed(size_t step, absl::string_view token,
                         std::string* out) {
  if (step == states_.size()) return utf8_.Append(token, out);
  const Decoder::Streamed& streamed = decoder_->streamed_[step];
  std::visit(DecoderFeed{this, step, streamed.fused, token, out},
             streamed.step);
  states_[step].first = false;
}

void DecoderStream::End(size_t step, std::string* out) {
  if (step == states_.size()) return utf8_.Flush(out);
  const Decoder::Streamed& streamed = decoder_->streamed_[step];
  const DecoderFeed feed{this, step, streamed.fused, "", out};
  if (Is<ByteLevelDecode>(streamed.step)) {
    std::string text;
    states_[step].utf8.Flush(&text);
    if (!text.empty()) feed.Pass(text);
  } else if (Is<ByteFallbackDecode>(streamed.step)) {
    feed.EndBytes();
  } else if (const auto* bpe = std::get_if<BpeDecode>(&streamed.step)) {
    if (!states_[step].first) {
      feed.Pass(ReplaceAll(states_[step].held, bpe->suffix, ""));
    }
  }
  End(step + 1, out);
  states_[step] = StepState();
}

void DecoderStream::Flush(std::string* out) { End(0, out); }

}  // namespace descant
