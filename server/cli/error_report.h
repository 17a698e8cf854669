// What the user is told when a call or a local step fails.
#ifndef DESCANT_SERVER_CLI_ERROR_REPORT_H_
#define DESCANT_SERVER_CLI_ERROR_REPORT_H_

#include <grpcpp/grpcpp.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "runtime/base/clock.h"
#include "server/cli/exit_code.h"

namespace descant::cli {

// An error, taken apart.
struct ErrorFacts {
  std::string code;     // "NOT_FOUND"
  std::string reason;   // ErrorInfo's; empty where the server sent none
  std::string message;  // one line: message, field violations, quotas
  // When to come back, where the server said so.
  std::optional<Duration> retry_delay;
};
ErrorFacts FactsOf(const grpc::Status& status);

// One line: code, reason, message, field violations and when to come back,
// from the google.rpc details where the server sent them. For instance
//   INVALID_ARGUMENT (FIELD_INVALID): bad request; sampling.top_p: must be in
//   (0, 1]
std::string DescribeError(const grpc::Status& status);

ExitCode ExitCodeOf(grpc::StatusCode code);

// Prints "descant: <line>" on standard error, with a hint where no server
// answers at `target`. Returns the exit code.
ExitCode ReportError(const grpc::Status& status, const std::string& target);

// The same for a failure on this side.
ExitCode ReportError(const absl::Status& status);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ERROR_REPORT_H_
