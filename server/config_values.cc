#include "server/config_values.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "runtime/base/checked_size.h"

namespace descant {

absl::Status ParseNumber(absl::string_view text, int64_t min, int64_t max,
                         int32_t* out) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < min || value > max) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be a whole number from ", min, " to ", max));
  }
  *out = static_cast<int32_t>(value);
  return absl::OkStatus();
}

absl::Status ParseBytes(absl::string_view text, uint64_t min, uint64_t* out) {
  constexpr std::pair<absl::string_view, uint64_t> kUnits[] = {
      {"KiB", uint64_t{1} << 10},
      {"MiB", uint64_t{1} << 20},
      {"GiB", uint64_t{1} << 30},
      {"TiB", uint64_t{1} << 40},
  };
  uint64_t unit = 1;
  for (const auto& [suffix, size] : kUnits) {
    if (absl::ConsumeSuffix(&text, suffix)) {
      unit = size;
      break;
    }
  }
  uint64_t value = 0;
  // SimpleAtoi takes a leading minus as an error for unsigned types.
  const bool is_number = absl::SimpleAtoi(text, &value);
  const auto bytes = (CheckedSize(value) * CheckedSize(unit)).value();
  if (!is_number || !bytes.has_value() || *bytes < min) {
    return absl::InvalidArgumentError(absl::StrCat(
        "must be a size such as 512MiB or 2GiB, at least ", min, " bytes"));
  }
  *out = *bytes;
  return absl::OkStatus();
}

absl::Status ParseDuration(absl::string_view text, Duration min, Duration max,
                           Duration* out) {
  absl::Duration parsed;
  if (absl::ParseDuration(text, &parsed)) {
    if (parsed >= absl::FromChrono(min) && parsed <= absl::FromChrono(max)) {
      *out = absl::ToChronoNanoseconds(parsed);
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must be a time such as 30s or 10m, from ",
                   absl::FormatDuration(absl::FromChrono(min)), " to ",
                   absl::FormatDuration(absl::FromChrono(max))));
}

absl::Status ParseBool(absl::string_view text, bool* out) {
  if (text != "true" && text != "false") {
    return absl::InvalidArgumentError("must be true or false");
  }
  *out = text == "true";
  return absl::OkStatus();
}

}  // namespace descant
