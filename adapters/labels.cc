#include "adapters/labels.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "adapters/error_reason.h"
#include "adapters/name.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

// Bytes of the character that `text` begins with; 0 where it is no valid UTF-8
// (overlong, a surrogate, above U+10FFFF) or a control character (C0, DEL, C1).
size_t PrintableLength(absl::string_view text) {
  const auto byte = [text](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const uint32_t first = byte(0);
  if (first < 0x80) return first < 0x20 || first == 0x7f ? 0 : 1;
  const size_t length = first >= 0xf0   ? 4
                        : first >= 0xe0 ? 3
                        : first >= 0xc2 ? 2
                                        : 0;
  if (length == 0 || first > 0xf4) return 0;
  uint32_t code = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0xa0, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10ffff) return 0;
  return code >= 0xd800 && code <= 0xdfff ? 0 : length;
}

bool IsPrintableUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = PrintableLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

absl::Status Refuse(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument,
                       reason::kLabelInvalid, message, "labels");
}

}  // namespace

absl::Status ValidateLabels(const AdapterLabels& labels) {
  if (labels.size() > kMaxLabels) {
    return Refuse(absl::StrCat("labels: at most ", kMaxLabels));
  }
  for (const auto& [key, value] : labels) {
    const auto parsed = ParseAdapterId(key);
    if (!parsed.ok() || parsed->name != key) {
      return Refuse("labels: a key must be [A-Za-z0-9][A-Za-z0-9._-]{0,62}");
    }
    if (value.size() > kMaxLabelValueBytes || !IsPrintableUtf8(value)) {
      return Refuse(absl::StrCat("labels: a value must be at most ",
                                 kMaxLabelValueBytes,
                                 " bytes of printable UTF-8"));
    }
  }
  return absl::OkStatus();
}

}  // namespace descant
