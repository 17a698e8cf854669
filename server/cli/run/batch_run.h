// A file of requests, answered one by one into another file.
#ifndef DESCANT_SERVER_CLI_RUN_BATCH_RUN_H_
#define DESCANT_SERVER_CLI_RUN_BATCH_RUN_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "descant/v1/generation.pb.h"
#include "server/cli/connection.h"
#include "server/cli/run/progress.h"

namespace descant::cli {

struct BatchOptions {
  std::string input;             // "-" is standard input
  std::string output;            // "-" is standard output
  v1::GenerateRequest defaults;  // for what a line leaves out
  int concurrency = 0;           // 0: what keeps the server's batch full
  bool strict = false;           // a bad line stops all before the first starts
  bool retry_failed = false;     // lines that failed in an earlier run
  bool in_order = false;         // sort the answers at the end
  double timeout_seconds = 600;  // for each attempt at a line
  double patience_seconds = 300;  // how long the server may be away
  // How often the user asked to stop: once, what is in flight is finished;
  // twice, it is given up. Polled ten times a second.
  std::function<int()> stops;
  bool show_progress = true;
};

struct BatchResult {
  RunCounts counts;
  int64_t failed_before = 0;  // of those skipped
  // Every line has its record. Else `call` or `status` say why, or the user
  // stopped it.
  bool complete = false;
  grpc::Status call;    // the error that ended the run, where a call did
  absl::Status status;  // the same for files and lines
};

// Sends every line that has no record in `output` yet and appends its record
// when it is answered: completion order. A call that is lost or refused for
// want of room is sent again; any other error is the line's record. Memory: the
// lines in flight, and nine bytes for each line answered earlier.
BatchResult RunBatch(const Connection& connection, const BatchOptions& options);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_BATCH_RUN_H_
