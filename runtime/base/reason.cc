#include "runtime/base/reason.h"

#include "absl/strings/cord.h"
#include "absl/types/optional.h"
#include "runtime/base/check.h"

namespace descant {
namespace {

constexpr char kReasonUrl[] = "descant/reason";
constexpr char kFieldUrl[] = "descant/field";

std::string PayloadOf(const absl::Status& status, absl::string_view url) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace

absl::Status ReasonedError(absl::StatusCode code, absl::string_view reason,
                           absl::string_view message, absl::string_view field) {
  DESCANT_CHECK(code != absl::StatusCode::kOk);
  absl::Status status(code, message);
  status.SetPayload(kReasonUrl, absl::Cord(reason));
  if (!field.empty()) status.SetPayload(kFieldUrl, absl::Cord(field));
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  return PayloadOf(status, kReasonUrl);
}

std::string FieldOf(const absl::Status& status) {
  return PayloadOf(status, kFieldUrl);
}

}  // namespace descant
