#include "server/cli/error_report.h"

#include <chrono>
#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace descant::cli {
namespace {

// The codes' names are the same in gRPC and Abseil.
std::string CodeName(int code) {
  const std::string name =
      absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
  return name.empty() ? absl::StrCat("code ", code) : name;
}

// Keeps a line one line, and the terminal's state ours.
std::string OneLine(absl::string_view text) {
  std::string line;
  for (const char byte : text) {
    const auto value = static_cast<unsigned char>(byte);
    line += value < 0x20 || value == 0x7f ? ' ' : byte;
  }
  return line;
}

struct Details {
  std::string reason;
  std::vector<std::string> notes;
  std::optional<Duration> retry_delay;
};

Details ParseDetails(const std::string& bytes) {
  Details details;
  google::rpc::Status rich;
  if (!rich.ParseFromString(bytes)) return details;
  for (const google::protobuf::Any& any : rich.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    google::rpc::QuotaFailure quota;
    if (any.UnpackTo(&info)) {
      details.reason = info.reason();
    } else if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        // Some descriptions begin with the field's name themselves.
        details.notes.push_back(
            absl::StartsWith(violation.description(), violation.field())
                ? violation.description()
                : absl::StrCat(violation.field(), ": ",
                               violation.description()));
      }
    } else if (any.UnpackTo(&quota)) {
      for (const auto& violation : quota.violations()) {
        details.notes.push_back(
            absl::StrCat(violation.subject(), ": ", violation.description()));
      }
    } else if (any.UnpackTo(&retry)) {
      details.retry_delay =
          std::chrono::seconds(retry.retry_delay().seconds()) +
          std::chrono::nanoseconds(retry.retry_delay().nanos());
    }
  }
  return details;
}

}  // namespace

ErrorFacts FactsOf(const grpc::Status& status) {
  Details details = ParseDetails(status.error_details());
  ErrorFacts facts;
  facts.code = CodeName(status.error_code());
  facts.reason = OneLine(details.reason);
  facts.retry_delay = details.retry_delay;
  std::string message = status.error_message();
  for (const std::string& note : details.notes) {
    // A server may put its only violation into the message as well.
    if (status.error_message().find(note) == std::string::npos) {
      absl::StrAppend(&message, message.empty() ? "" : "; ", note);
    }
  }
  facts.message = OneLine(message);
  return facts;
}

std::string DescribeError(const grpc::Status& status) {
  const ErrorFacts facts = FactsOf(status);
  std::string line = facts.code;
  if (!facts.reason.empty()) absl::StrAppend(&line, " (", facts.reason, ")");
  if (!facts.message.empty()) absl::StrAppend(&line, ": ", facts.message);
  if (facts.retry_delay) {
    absl::StrAppend(&line, absl::StrFormat("; retry in %g s",
                                           ToSeconds(*facts.retry_delay)));
  }
  return line;
}

ExitCode ExitCodeOf(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return kExitOk;
    case grpc::StatusCode::NOT_FOUND:
      return kExitNotFound;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::UNIMPLEMENTED:
      return kExitRefused;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::CANCELLED:
      return kExitRetry;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return kExitPermission;
    default:
      return kExitInternal;
  }
}

ExitCode ReportError(const grpc::Status& status, const std::string& target) {
  std::string line = DescribeError(status);
  // UNAVAILABLE without details did not come from a Descant server.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      status.error_details().empty()) {
    absl::StrAppend(&line, "; is descant-server running at ", target, "?");
  }
  std::fprintf(stderr, "descant: %s\n", line.c_str());
  return ExitCodeOf(status.error_code());
}

ExitCode ReportError(const absl::Status& status) {
  std::fprintf(stderr, "descant: %s\n",
               OneLine(std::string(status.message())).c_str());
  // The codes' numbers are the same in gRPC and Abseil.
  return ExitCodeOf(static_cast<grpc::StatusCode>(status.raw_code()));
}

}  // namespace descant::cli
