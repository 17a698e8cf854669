#include <re2/re2.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/peft_config.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

// A pattern's compiled program and its state caches, in bytes.
constexpr int64_t kPatternMemory = 64 << 10;

absl::Status Refuse(absl::string_view message, absl::string_view field) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kConfigPattern, message, field);
}

re2::StringPiece Piece(absl::string_view text) {
  return re2::StringPiece(text.data(), text.size());
}

}  // namespace

absl::StatusOr<PeftPattern> PeftPattern::Compile(absl::string_view pattern,
                                                 Form form,
                                                 absl::string_view field) {
  if (pattern.size() > kMaxPatternBytes) {
    return Refuse(
        absl::StrCat("pattern longer than ", kMaxPatternBytes, " bytes"),
        field);
  }
  // Valid in both syntaxes, with different meanings.
  if (absl::StrContains(pattern, "{,") || absl::StrContains(pattern, "[[:")) {
    return Refuse("pattern uses syntax that is not served ({,n} or [[:)",
                  field);
  }
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kPatternMemory);
  options.set_encoding(RE2::Options::EncodingLatin1);
  std::string text;
  switch (form) {
    case kFullMatch:
      text = std::string(pattern);
      break;
    case kSuffix:
      text = absl::StrCat("(.*\\.)?(", pattern, ")$");
      break;
    case kLayerIndex:
      text = absl::StrCat("(?:^|.*?\\.)", pattern, "\\.(?P<idx>\\d+)\\.");
      break;
    case kFirstIndex:
      text = absl::StrCat(".*?\\.", pattern, "\\.(?P<idx>\\d+)\\.");
      break;
  }
  auto re = std::make_shared<RE2>(Piece(text), options);
  if (!re->ok()) {
    return Refuse("not a regular expression of linear time (RE2), or too large",
                  field);
  }
  PeftPattern compiled;
  compiled.text_ = std::string(pattern);
  compiled.form_ = form;
  compiled.re_ = std::move(re);
  return compiled;
}

bool PeftPattern::Matches(absl::string_view module_path) const {
  return re_->Match(Piece(module_path), 0, module_path.size(),
                    form_ == kFullMatch ? RE2::ANCHOR_BOTH : RE2::ANCHOR_START,
                    nullptr, 0);
}

bool PeftPattern::FindLayer(absl::string_view module_path,
                            std::string* digits) const {
  const auto& groups = re_->NamedCapturingGroups();
  const auto it = groups.find("idx");
  if (it == groups.end()) return false;
  std::vector<re2::StringPiece> parts(it->second + 1);
  if (!re_->Match(Piece(module_path), 0, module_path.size(), RE2::ANCHOR_START,
                  parts.data(), static_cast<int>(parts.size()))) {
    return false;
  }
  digits->assign(parts.back().data() == nullptr ? "" : parts.back().data(),
                 parts.back().size());
  return true;
}

int32_t PeftPattern::program_size() const { return re_->ProgramSize(); }

}  // namespace descant
