#include "server/errors.h"

#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "server/limits.h"

namespace descant {
namespace {

// Payload of a status with several violations: for each its field and its
// description, both ended by kEnd, which no text of ours contains.
constexpr char kViolationsUrl[] = "descant/violations";
constexpr char kEnd = '\x1f';
// Payload: nanoseconds.
constexpr char kRetryDelayUrl[] = "descant/retry-delay";

void AddViolation(absl::string_view field, absl::string_view description,
                  google::rpc::BadRequest* bad) {
  auto* violation = bad->add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
}

// For statuses that carry no reason of their own.
absl::string_view DefaultReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return "INVALID_ARGUMENT";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kNotFound:
      return "NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return "ALREADY_EXISTS";
    case absl::StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case absl::StatusCode::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case absl::StatusCode::kAborted:
      return "ABORTED";
    case absl::StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case absl::StatusCode::kUnimplemented:
      return "UNIMPLEMENTED";
    case absl::StatusCode::kDataLoss:
      return "DATA_LOSS";
    default:
      return "INTERNAL";
  }
}

void SetDuration(Duration from, google::protobuf::Duration* to) {
  const auto nanos =
      std::chrono::duration_cast<std::chrono::nanoseconds>(from).count();
  to->set_seconds(nanos / 1000000000);
  to->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

Duration RetryDelayOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryDelayUrl);
  int64_t nanoseconds = 0;
  if (!payload.has_value() ||
      !absl::SimpleAtoi(std::string(*payload), &nanoseconds)) {
    return limits::kRetryDelay;
  }
  return std::chrono::nanoseconds(nanoseconds);
}

bool IsOurs(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal ||
         code == absl::StatusCode::kUnknown;
}

void AddDetails(const absl::Status& status, const CallFacts& facts,
                google::rpc::Status* rich) {
  const std::string reason = ReasonOf(status);
  const std::string field = FieldOf(status);
  google::rpc::ErrorInfo info;
  info.set_domain("descant");
  const absl::string_view name =
      reason.empty() ? DefaultReason(status.code()) : reason;
  info.set_reason(name.data(), name.size());
  if (!field.empty()) (*info.mutable_metadata())["field"] = field;
  rich->add_details()->PackFrom(info);

  const absl::StatusCode code = status.code();
  if (code == absl::StatusCode::kInvalidArgument && !field.empty()) {
    google::rpc::BadRequest bad;
    const auto several = status.GetPayload(kViolationsUrl);
    if (several.has_value()) {
      const std::vector<std::string> parts =
          absl::StrSplit(std::string(*several), kEnd);
      for (size_t i = 0; i + 1 < parts.size(); i += 2) {
        AddViolation(parts[i], parts[i + 1], &bad);
      }
    } else {
      AddViolation(field, rich->message(), &bad);
    }
    rich->add_details()->PackFrom(bad);
  }
  if ((code == absl::StatusCode::kNotFound ||
       code == absl::StatusCode::kAlreadyExists) &&
      !facts.adapter_id.empty()) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type("descant.v1.Adapter");
    resource.set_resource_name(facts.adapter_id);
    rich->add_details()->PackFrom(resource);
  }
  const bool is_quota =
      absl::EndsWith(reason, "_QUOTA") || absl::EndsWith(reason, "_LIMIT");
  if (code == absl::StatusCode::kResourceExhausted && is_quota) {
    google::rpc::QuotaFailure quota;
    auto* violation = quota.add_violations();
    violation->set_subject(absl::StartsWith(reason, "TENANT_") ? "tenant"
                                                               : "server");
    violation->set_description(rich->message());
    rich->add_details()->PackFrom(quota);
  }
  if (code == absl::StatusCode::kUnavailable ||
      (code == absl::StatusCode::kResourceExhausted && is_quota)) {
    google::rpc::RetryInfo retry;
    SetDuration(RetryDelayOf(status), retry.mutable_retry_delay());
    rich->add_details()->PackFrom(retry);
  }
  if (IsOurs(code) && facts.request_id != 0) {
    google::rpc::RequestInfo request;
    request.set_request_id(absl::StrCat(facts.request_id));
    rich->add_details()->PackFrom(request);
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, const CallFacts& facts) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  if (IsOurs(status.code())) {
    LogError("request ", facts.request_id,
             " failed: ", LogSafe(status.message()));
    rich.set_message("internal error; the server's log has the reason");
  } else {
    rich.set_message(std::string(status.message()));
  }
  AddDetails(status, facts, &rich);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      rich.message(), rich.SerializeAsString());
}

void Violations::Add(const absl::Status& status) {
  if (status.ok() || count_ == limits::kMaxViolations) return;
  if (count_++ == 0) {
    first_ = status;
  } else {
    absl::StrAppend(&message_, "; ");
  }
  absl::StrAppend(&message_, status.message());
  absl::StrAppend(&fields_, FieldOf(status), std::string(1, kEnd),
                  status.message(), std::string(1, kEnd));
}

absl::Status Violations::Result() const {
  if (count_ < 2) return first_;
  absl::Status status =
      ReasonedError(first_.code(), ReasonOf(first_), message_, FieldOf(first_));
  status.SetPayload(kViolationsUrl, absl::Cord(fields_));
  return status;
}

absl::Status WithRetryDelay(absl::Status status, Duration delay) {
  const auto nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(delay).count();
  status.SetPayload(kRetryDelayUrl, absl::Cord(absl::StrCat(nanoseconds)));
  return status;
}

absl::Status FieldError(absl::string_view field, absl::string_view message,
                        absl::string_view reason) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat(field, ": ", message), field);
}

}  // namespace descant
