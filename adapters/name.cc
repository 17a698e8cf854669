#include "adapters/name.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr size_t kMaxNameBytes = 63;
constexpr size_t kSha256HexBytes = 64;
constexpr absl::string_view kDigestPrefix = "sha256:";

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
         c == '_' || c == '-';
}

// The grammar without the reserved names.
bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         absl::ascii_isalnum(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(), IsNameByte) &&
         !absl::StrContains(name, "..");
}

absl::Status InvalidName() {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, reason::kAdapterNameInvalid,
      "adapter name: want 1 to 63 of A-Z a-z 0-9 . _ -, a letter or digit "
      "first, no \"..\"",
      "name");
}

}  // namespace

absl::Status ValidateAdapterName(absl::string_view name,
                                 absl::string_view model_name) {
  if (!IsName(name)) return InvalidName();
  if (absl::EqualsIgnoreCase(name, "base") ||
      absl::EqualsIgnoreCase(name, "none") ||
      absl::EqualsIgnoreCase(name, model_name)) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kAdapterNameReserved, "adapter name: reserved",
                         "name");
  }
  return absl::OkStatus();
}

bool IsTenantId(absl::string_view id) {
  return ValidateAdapterName(id, "").ok();
}

absl::StatusOr<AdapterId> ParseAdapterId(absl::string_view text) {
  AdapterId id;
  const size_t at = text.find('@');
  const absl::string_view name = text.substr(0, at);
  if (!IsName(name)) return InvalidName();
  id.name = std::string(name);
  if (at == absl::string_view::npos) return id;
  if (!IsDigest(text.substr(at + 1))) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, reason::kAdapterIdInvalid,
        "adapter_id: want name or name@sha256:<64 hex>", "adapter_id");
  }
  id.digest = std::string(text.substr(at + 1));
  return id;
}

absl::StatusOr<AdapterId> ParseQualifiedAdapterId(absl::string_view text) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return ParseAdapterId(text);
  const absl::string_view owner = text.substr(0, slash);
  if (!IsTenantId(owner)) return InvalidName();
  DESCANT_ASSIGN_OR_RETURN(AdapterId id,
                           ParseAdapterId(text.substr(slash + 1)));
  id.owner = std::string(owner);
  return id;
}

bool IsSha256Hex(absl::string_view text) {
  return text.size() == kSha256HexBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool IsDigest(absl::string_view text) {
  return absl::ConsumePrefix(&text, kDigestPrefix) && IsSha256Hex(text);
}

}  // namespace descant
